"""A worker's memory: it does not grow with the number of steps, and the largest steps' peaks are known (printed).

In a process of its own, as a worker's child is one, on the same servers as everything else. Seen to fail: a list at
module level in app/retention/steps.py that keeps every report's rows.
"""

import json
import subprocess
import sys
from typing import Any

import pytest

from dev.product import ROOT
from tests.acceptance.many_rows import files_of_letters, fill
from tests.factories import create_service, history, live
from tests.fakes.many_files import many_files

STEPS = 500
FIRST_LOOK = 100
"""Steps after which caches are warm: drivers, statements, connections."""
MOST_GROWTH = 5 * 1024 * 1024
MOST_OF_A_STEP = 80 * 1024 * 1024
MOST_GROWTH_OF_A_LARGE_STEP = 20 * 1024 * 1024
SECONDS_TO_END = 240

# One process, one step after the other, as the messages of a queue come to a worker's child. Prints the resident
# memory after each step, and the most there ever was.
WORKER = """
import json, resource, sys
from app import create_app
from app.retention import chains, nightly

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

steps, seen = 0, []
with create_app().app_context():
    before = resident()
    waiting = [wake for kind in sys.argv[1:] for wake in nightly.fan_out(kind)]
    while waiting:
        wake = waiting.pop(0)
        waiting += chains.run_step(wake.chain, wake.step, f"task-{steps}")
        steps += 1
        seen.append(resident())
# Not ru_maxrss, which a process inherits from the one that started it.
with open("/proc/self/status") as file:
    peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
print(json.dumps({"before": before, "seen": seen, "peak": peak}))
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")


def work(environment: dict[str, str], *types: str, script: str = WORKER, **settings: str) -> dict[str, Any]:
    """What a process that does all steps of these types says of its memory."""
    ended = subprocess.run(
        [sys.executable, "-c", script, *types],
        env={**environment, "FAN_OUT_SPREAD_SECONDS": "0", "LOG_LEVEL": "ERROR", **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS_TO_END,
    )
    assert ended.returncode == 0, ended.stderr[-2_000:]
    return json.loads(ended.stdout.splitlines()[-1])


# An audit from beginning to end, a page at a time. Prints the resident memory after each page.
AUDITOR = """
import json, resource
from app import create_app
from app.retention import audit

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

seen = []
with create_app().app_context():
    current = audit.begin("me")
    while current.finished_at is None:
        current = audit.go_on(current, watch=lambda _: seen.append(resident())).audit
print(json.dumps({"seen": seen, "files": current.files_seen, "without_row": current.files_without_row,
                  "rows": current.rows_seen, "without_file": current.rows_without_file}))
"""
LETTERS_AUDITED = 20_000
FILES_OF_NOBODY = 20_000


def mebibytes(size: float) -> str:
    return f"{size / 1024 / 1024:.1f} MiB"


def test_memory_does_not_grow_with_the_number_of_steps(app, connection, s3, environment, capsys):
    service = create_service(connection)
    fill(connection, service, "email", STEPS - FIRST_LOOK)
    fill(connection, service, "letter", STEPS - FIRST_LOOK)
    did = work(environment, "email", "letter", MESSAGES_PER_STEP="1", LETTERS_PER_STEP="1", MISSING_FILES_SHARE="off")
    assert (len(live(connection)), len(history(connection))) == (0, 2 * (STEPS - FIRST_LOOK))
    assert len(did["seen"]) > STEPS
    after_first, after_all = did["seen"][FIRST_LOOK], did["seen"][-1]
    with capsys.disabled():
        print(
            f"\nmemory: {mebibytes(did['before'])} at start, {mebibytes(after_first)} after {FIRST_LOOK} steps, "
            f"{mebibytes(after_all)} after {len(did['seen'])}"
        )
    assert after_all - after_first < MOST_GROWTH


@pytest.mark.parametrize(("notification_type", "rows"), [("email", 10_000), ("letter", 5_000)])
def test_the_largest_steps_stay_small(app, connection, environment, capsys, notification_type, rows):
    """Two of them, one after the other: the second needs no more than the first left."""
    fill(connection, create_service(connection), notification_type, 2 * rows)
    with many_files(files_of_letters(connection)) as server:
        did = work(environment, notification_type, AWS_ENDPOINT_URL_S3=server.url)
    kept = [key for keys in server.keys.values() for key in keys]
    assert (live(connection), len(history(connection))) == (set(), 2 * rows)
    assert [key for key in kept if notification_type == "letter"] == []
    first, second = did["seen"][:2]
    with capsys.disabled():
        print(
            f"\nmemory of {rows:,} {notification_type}s a step: peak {mebibytes(did['peak'])}, "
            f"{mebibytes(did['peak'] - did['before'])} above the start"
        )
    assert did["peak"] - did["before"] < MOST_OF_A_STEP
    assert second - first < MOST_GROWTH_OF_A_LARGE_STEP


def test_an_audit_needs_no_more_memory_for_forty_pages_than_for_a_few(app, connection, environment, capsys):
    fill(connection, create_service(connection), "letter", LETTERS_AUDITED)
    letters = list(files_of_letters(connection))
    orphans = [(letters[0][0], f"2025-01-01/NOTIFY.X{n:09}.D.2.C.20250101120000.PDF") for n in range(FILES_OF_NOBODY)]
    with many_files([*orphans, *letters[: LETTERS_AUDITED - 7]]) as server:
        did = work(environment, script=AUDITOR, AWS_ENDPOINT_URL_S3=server.url)
    assert (did["files"], did["without_row"]) == (LETTERS_AUDITED - 7 + FILES_OF_NOBODY, FILES_OF_NOBODY)
    assert (did["rows"], did["without_file"]) == (LETTERS_AUDITED, 7)
    after_few, most = did["seen"][5], max(did["seen"])
    with capsys.disabled():
        print(
            f"\nmemory of an audit: {mebibytes(after_few)} after 6 pages, "
            f"at most {mebibytes(most)} in {len(did['seen'])}"
        )
    assert len(did["seen"]) >= 60
    assert most - after_few < MOST_GROWTH
