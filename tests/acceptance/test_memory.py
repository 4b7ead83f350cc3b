"""A worker's memory: it does not grow with the number of steps, and the largest steps' peaks are known (printed).

In a process of its own, as a worker's child is one, on the same servers as everything else. Seen to fail: a list at
module level in app/retention/steps.py that keeps every report's rows.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, text

from app.local.product import ROOT
from app.retention.tools import tools
from app.storage.naming import Letter
from tests.factories import create_service, history, live
from tests.fakes.many_files import ManyFiles, many_files

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

FILL = """
INSERT INTO notifications (id, "to", service_id, key_type, notification_type, notification_status, template_id,
                           template_version, created_at, reference, postage, _personalisation)
SELECT gen_random_uuid(), 'someone@example.test', :service, 'normal', CAST(:type AS notification_type), 'delivered',
       gen_random_uuid(), 1,
       now() - interval '30 days' + n * interval '1 millisecond', CAST(:mark AS text) || lpad(n::text, 12, '0'),
       CASE CAST(:type AS text) WHEN 'letter' THEN 'second' END, repeat('private ', 20)
FROM generate_series(1, CAST(:rows AS integer)) AS n
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")


def fill(connection: Connection, service: UUID, notification_type: str, rows: int) -> None:
    values = {"service": service, "type": notification_type, "rows": rows, "mark": notification_type.upper()}
    connection.execute(text(FILL), values)


def work(environment: dict[str, str], *types: str, **settings: str) -> dict[str, Any]:
    """What a process that does all steps of these types says of its memory."""
    ended = subprocess.run(
        [sys.executable, "-c", WORKER, *types],
        env={**environment, "FAN_OUT_SPREAD_SECONDS": "0", "LOG_LEVEL": "ERROR", **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS_TO_END,
    )
    assert ended.returncode == 0, ended.stderr[-2_000:]
    return json.loads(ended.stdout.splitlines()[-1])


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


@contextmanager
def files_of_letters(connection: Connection) -> Iterator[ManyFiles]:
    """A server that holds the file of each letter."""
    rows = connection.execute(text("SELECT id, reference, created_at FROM notifications")).all()
    naming = tools().naming
    letters = [Letter(row[0], row[1], row[2].replace(tzinfo=UTC), "delivered", "normal", "second") for row in rows]
    with many_files((naming.buckets.letters, naming.key(letter)) for letter in letters) as server:
        yield server


@pytest.mark.parametrize(("notification_type", "rows"), [("email", 10_000), ("letter", 5_000)])
def test_the_largest_steps_stay_small(app, connection, environment, capsys, notification_type, rows):
    """Two of them, one after the other: the second needs no more than the first left."""
    fill(connection, create_service(connection), notification_type, 2 * rows)
    with files_of_letters(connection) as server:
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
