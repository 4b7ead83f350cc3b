"""deploy/terraform agrees with the product, and with the policies that the tests run under.

Read as text, since AWS's provider is not fetched; what has no provider in it is evaluated by `terraform console`, where
there is one. Seen to fail: 30 days of logs, 60 s to stop, another visibility time-out here and in the product, a
backstop for the users' own files, one of exports before their end, one within the longest hold, a policy of another
name, a policy with another placeholder, a bucket and a queue left out, an action of the queues too few, a bucket that
is not private, another number of workers' processes, spaces out of place; each secret no longer required, one of web's
for all, the owner's database for a worker and not for the migrations, all secrets for all, one that is no setting.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from app.config import Settings
from tests.least import ACCOUNTS_POLICY_FILE, POLICY_FILE, SES_IDENTITY, policy

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "deploy" / "terraform"
TEXT = {path.name: path.read_text() for path in DIRECTORY.glob("*.tf")}
ALL = "\n".join(TEXT.values())
REQUIRED_SECRETS = {"DATABASE_URL", "METRICS_TOKEN", "SECRET_KEY"}
OPTIONAL = {"S3_BUCKET_ARCHIVE"}
"""What is not set up here: history is archived only where somebody wants it to be (docs/archive.md)."""
OF_QUEUES = {"QUEUE_NIGHTLY", "QUEUE_PERIODIC", "QUEUE_ACCOUNTS"}


def terraform() -> str:
    found = shutil.which("terraform")
    if found is None:
        pytest.skip("terraform is not installed")
    return found


def values(name: str) -> set[str]:
    return set(re.findall(rf"^ *{name} += (.+)$", ALL, re.MULTILINE))


def block(file: str, name: str) -> str:
    """The lines of a map of `locals`."""
    return re.search(rf"^  {name} = \{{\n(.*?)^  \}}", TEXT[file], re.MULTILINE | re.DOTALL)[1]


def keys(lines: str) -> set[str]:
    return set(re.findall(r"^    ([A-Z0-9_]+) +=", lines, re.MULTILINE))


def test_the_files_are_formatted():
    done = subprocess.run([terraform(), "fmt", "-check", "-recursive", DIRECTORY], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_logs_are_kept_for_14_days():
    assert ALL.count('resource "aws_cloudwatch_log_group"') == 1
    assert values("retention_in_days") == {"14"}


def test_a_process_has_as_long_to_stop_as_the_platform_allows():
    assert values("stopTimeout") == {"120"}
    assert values("readonlyRootFilesystem") == {"true"}


def test_the_queues_hide_a_message_for_as_long_as_the_product_is_told():
    shipped = Settings.model_fields["visibility_timeout_seconds"].default
    assert f"  visibility_timeout_seconds = {shipped}\n" in TEXT["queues.tf"]
    assert values("visibility_timeout_seconds") == {str(shipped), "local.visibility_timeout_seconds"}
    assert values("VISIBILITY_TIMEOUT_SECONDS") == {"tostring(local.visibility_timeout_seconds)"}


def test_the_queues_and_buckets_are_those_of_the_settings():
    names = {name.upper() for name in Settings.model_fields}
    assert keys(block("queues.tf", "queues")) == OF_QUEUES == {name for name in names if name.startswith("QUEUE_")}
    assert keys(block("buckets.tf", "buckets")) == {name for name in names - OPTIONAL if name.startswith("S3_BUCKET_")}


def test_every_bucket_forgets_what_is_far_too_old_but_the_users_own():
    assert keys(block("buckets.tf", "buckets")) - keys(block("buckets.tf", "backstops")) == {"S3_BUCKET_USER_FILES"}
    assert keys(block("buckets.tf", "backstops")) < keys(block("buckets.tf", "buckets"))
    exports = re.search(r"S3_BUCKET_EXPORTS +=  ?(\d+)$", block("buckets.tf", "backstops"), re.MULTILINE)
    assert int(exports[1]) > Settings.model_fields["export_kept_days"].default
    for resource in ("abort_incomplete_multipart_upload", "noncurrent_version_expiration"):
        assert resource in TEXT["buckets.tf"]


def test_the_backstop_is_past_the_longest_retention_and_the_longest_hold():
    defaults = dict(re.findall(r'variable "(\w+)" \{[^}]*?default += (\d+)', TEXT["variables.tf"]))
    on_hold = Settings.model_fields["on_hold_red_days"].default
    assert int(defaults["backstop_days"]) > int(defaults["longest_retention_days"]) + on_hold


def test_every_bucket_is_private_and_encrypted():
    for name in ("public_access_block", "server_side_encryption_configuration", "lifecycle_configuration"):
        [body] = re.findall(rf'resource "aws_s3_bucket_{name}" "bucket" \{{\n(.*?)^\}}', ALL, re.MULTILINE | re.DOTALL)
        assert "for_each = aws_s3_bucket.bucket" in body
    for name in ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"):
        assert values(name) == {"true"}


def test_the_policies_are_the_files_that_the_tests_run_under():
    found = re.findall(r'templatefile\("\$\{path\.module\}/(.+?)", (?:merge\()?local\.buckets', ALL)
    assert {(DIRECTORY / path).resolve() for path in found} == {POLICY_FILE, ACCOUNTS_POLICY_FILE}


@pytest.mark.parametrize("file", [POLICY_FILE, ACCOUNTS_POLICY_FILE], ids=lambda path: path.stem)
def test_terraform_fills_a_policy_in_as_the_tests_do(file, tmp_path):
    buckets = {name: name.lower().replace("_", "-") for name in keys(block("buckets.tf", "buckets"))}
    given = {**buckets, "SES_IDENTITY": SES_IDENTITY}
    arguments = ", ".join(f'{name} = "{value}"' for name, value in given.items())
    done = subprocess.run(
        [terraform(), "console"],
        cwd=tmp_path,
        input=f'jsonencode(jsondecode(templatefile("{file}", {{{arguments}}})))\n',
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(json.loads(done.stdout)) == policy(buckets, file)


def secrets_of_processes(given: set[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """What Terraform answers, as JSON in a string, where these secrets are given."""
    for name in ("variables.tf", "secrets.tf"):
        shutil.copy(DIRECTORY / name, directory)
    variables = {
        **dict.fromkeys(("name", "image", "web_target_group_arn"), "any"),
        "subnets": [],
        "security_groups": [],
    }
    variables |= {"owners_database_url_secret": "owners", "secrets": {name: name for name in given}}
    (directory / "terraform.tfvars.json").write_text(json.dumps(variables))
    return subprocess.run(
        [terraform(), "console"], cwd=directory, input="jsonencode(local.secrets)\n", capture_output=True, text=True
    )


def test_secrets_of_the_web_process_reach_no_other_and_the_owners_database_the_migrations_alone(tmp_path):
    done = secrets_of_processes(REQUIRED_SECRETS | {"OPS_USERS", "SENTRY_DSN"}, tmp_path)
    assert done.returncode == 0, done.stderr
    of_all = {"DATABASE_URL": "DATABASE_URL", "SENTRY_DSN": "SENTRY_DSN"}
    assert json.loads(json.loads(done.stdout)) == {
        "web": of_all | {name: name for name in ("METRICS_TOKEN", "OPS_USERS", "SECRET_KEY")},
        "worker": of_all,
        "beat": of_all,
        "migrate": of_all | {"DATABASE_URL": "owners"},
    }
    assert "in local.secrets[each.key] :" in TEXT["services.tf"]


@pytest.mark.parametrize("missing", sorted(REQUIRED_SECRETS))
def test_terraform_refuses_to_go_on_without_a_secret_that_is_needed(missing, tmp_path):
    done = secrets_of_processes(REQUIRED_SECRETS - {missing}, tmp_path)
    assert "METRICS_TOKEN and SECRET_KEY must be among the secrets" in " ".join(re.findall(r"\w+", done.stderr))


def test_the_secrets_are_settings():
    assert {*re.findall(r'"([A-Z_]+)"', TEXT["secrets.tf"]), *REQUIRED_SECRETS} <= {
        name.upper() for name in Settings.model_fields
    }


def test_the_queues_actions_are_those_of_the_brokers_page():
    granted = set(re.findall(r'"sqs:(\w+)"', TEXT["permissions.tf"]))
    said = re.search(r"role, with (ListQueues.+?), and CreateQueue", (ROOT / "docs" / "brokers.md").read_text())[1]
    assert granted == set(said.split(", "))


def test_the_processes_are_started_as_the_stack_of_containers_starts_them():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    commands = [
        json.loads(command) for command in re.findall(r"command = (\[.+\])$", TEXT["services.tf"], re.MULTILINE)
    ]
    assert commands == [services[name]["command"] for name in ("web", "worker", "beat", "migrate")]
