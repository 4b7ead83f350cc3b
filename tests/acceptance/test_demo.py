"""What a newcomer starts, `make demo`, `make up` and `make shell`, as processes of their own.

One demo goes through its night, and all that a whole demo shows is looked at there: that its processes log nothing
private, too (demo_logs.py). Seen to fail: the address of a deletion's confirmation put into its event, and each
session's token logged where it is looked for.
"""

import json
import os
import re
import signal
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.local import SECONDS_TO_END, Local, end, read_until

# What must never be reached, whatever the shell has exported: closed ports, a profile that doesn't exist, and
# settings that would spoil the night.
REAL_SYSTEM = {
    "DATABASE_URL": "postgresql://someone:secret@127.0.0.1:9/production",
    "CELERY_BROKER_URL": "redis://127.0.0.1:9/0",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_PROFILE": "production",
    "AWS_ACCESS_KEY_ID": "REALKEY",
    "S3_BUCKET_LETTERS_PDF": "production-letters",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "PGHOST": "127.0.0.1",
    "PGPORT": "9",
    "LETTERS_PER_STEP": "nonsense",
    "RETENTION_TIMEZONE": "Pacific/Auckland",
}


@pytest.fixture
def local() -> Iterator[Local]:
    """On a temporary directory that other accounts can reach: root's PostgreSQL runs as another one."""
    with tempfile.TemporaryDirectory(prefix="demo-test-") as name:
        temporary = Path(name)
        temporary.chmod(0o711)
        made = Local(temporary)
        yield made
        for process in made.processes:  # those that a failed test left
            if process.returncode is None:
                end(process, signal.SIGTERM)


EVENTS_OF_A_DEMO = {"step", "fanned-out", "deletion-step", "account-deleted", "sessions-removed", "sweep-page"}


def test_the_demo_verifies_its_night_whatever_the_shell_has_exported_leaves_nothing_and_logs_nothing_private(
    local, tmp_path
):
    demo = local.start("demo", "--scale", "0.4", watched=tmp_path / "found.json", **REAL_SYSTEM)
    printed = demo.communicate(timeout=300)[0]
    assert demo.returncode == 0, printed
    assert "0 rows lost, 0 files orphaned, 0 kept too long" in printed.splitlines()
    assert "31 kinds of awkward cases checked, 0 wrong" in printed
    steps, slices = re.search(r"the largest took (\d+) steps, in up to (\d+) slices", printed).groups()
    assert int(steps) >= 3
    assert int(slices) >= 2
    assert list(local.temporary.iterdir()) == []
    assert local.left_running() == []
    told = json.loads((tmp_path / "found.json").read_text())
    assert (told["found"], told["secrets"]) == ([], [])
    assert told["values"] > 20_000
    assert told["lines"] > 500
    assert told["an_example_is_found"] >= 1
    assert EVENTS_OF_A_DEMO | {"export-ready", "export-emailed", "deletion-confirmed"} <= set(told["events"])


@pytest.mark.parametrize(("when", "how"), [("seeding", signal.SIGINT), ("now the night", signal.SIGTERM)])
def test_a_demo_that_is_interrupted_removes_everything(local, when, how):
    demo = local.start("demo", "--scale", "0.1")
    read_until(demo, when)
    assert local.left_running() != []
    printed = end(demo, how)
    assert demo.returncode == 130, printed
    assert "Stopped; everything is removed." in printed
    assert list(local.temporary.iterdir()) == []
    assert local.left_running() == []


def test_the_stack_stays_up_for_a_shell_until_it_is_told_to_end(local):
    up, printed = local.up(AWS_PROFILE="production")
    exported = dict(re.findall(r"^export (\w+)=(.*)$", printed, re.MULTILINE))
    assert exported["DATABASE_URL"].startswith("postgresql://")
    assert json.loads(local.state.read_text())["environment"] == exported
    assert local.state.stat().st_mode & 0o777 == 0o600
    web = re.search(r"http://\S+/health/live", printed)[0]
    with urllib.request.urlopen(web, timeout=SECONDS_TO_END) as answer:  # noqa: S310 - our own server
        assert answer.status == 200
    token = {"Authorization": f"Bearer {exported['METRICS_TOKEN']}"}
    metrics = urllib.request.Request(web.replace("/health/live", "/metrics"), headers=token)  # noqa: S310
    with urllib.request.urlopen(metrics, timeout=SECONDS_TO_END) as answer:  # noqa: S310
        assert b'retention_scrape_errors{part="overdue"} 0.0' in answer.read()
    assert "['services', 6]" in local.shell("print(['services', db.session.query(Service).count()])\n")
    second = local.start("up", "--state", str(local.state))
    assert "is running already in this checkout" in second.communicate(timeout=SECONDS_TO_END)[0]
    assert second.returncode == 1
    rest = end(up, signal.SIGTERM)
    assert up.returncode == 130, rest
    assert list(local.temporary.iterdir()) == []
    assert local.left_running() == []
    assert "Nothing is running" in local.shell("")


def test_a_stack_whose_worker_ends_says_so_and_stops(local):
    up, _ = local.up()
    children = Path(f"/proc/{up.pid}/task/{up.pid}/children").read_text().split()
    (worker,) = (pid for pid in children if b"\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(int(worker), signal.SIGKILL)
    printed = up.communicate(timeout=SECONDS_TO_END)[0]
    assert up.returncode == 1
    assert "worker ended, status -9. Its log:" in printed
    assert list(local.temporary.iterdir()) == []
    assert local.left_running() == []
