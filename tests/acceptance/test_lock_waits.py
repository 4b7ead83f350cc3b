"""How long a writer waits for a row that a step holds: no longer than the step's lease, which its budget sets.

    .venv/bin/python -m pytest -s -q tests/acceptance/test_lock_waits.py

prints the longest waits of a receipt and of a plain UPDATE, beside the budget and the lease, during a step over 5,000
letters: with an S3 so slow that the step runs to its budget, and with a fast one. Promises 7 and 8.

Guards that were taken out, each seen to fail: `Requests.admit`'s check (the step then waits for S3 until the database
ends its idle transaction, and moves nothing), and the status writer's update of history.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, text

from app.config import Settings
from app.dao.chains_dao import Wake
from app.dao.notifications_dao import update_notification_status
from tests.acceptance.many_rows import files_of_letters, fill
from tests.chain_steps import chain, change, do, do_all, open_chains
from tests.concurrency import background, wait_until
from tests.factories import create_service, history, live, steps
from tests.fakes.many_files import ManyFiles
from tests.fakes.scripted_s3 import Answer, Asked, scripted_s3

LETTERS = 5_000
BUDGET_SECONDS = 5
MOST_ROUNDS = 20
APART = timedelta(minutes=5)
"""They lie in some eighteen folders: at the slow S3, all that their step would ask takes longer than its lease."""
SLOW_SECONDS = 0.6
"""An answer's. S3's read time-out is longer."""


class SlowFiles(ManyFiles):
    """Answers after so many seconds. `asked` counts the requests."""

    seconds: float = 0
    asked: int = 0

    def answer(self, asked: Asked) -> Answer:
        self.asked += 1
        time.sleep(self.seconds)
        return super().answer(asked)


@pytest.fixture
def files() -> Iterator[SlowFiles]:
    made = SlowFiles()
    with scripted_s3(made.answer) as server:
        made.url = server.url
        yield made


@pytest.fixture
def settings_override(files: SlowFiles) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_S3": files.url,
        "STEP_BUDGET_SECONDS": str(BUDGET_SECONDS),
        "LETTERS_PER_STEP": str(LETTERS),
    }


def longest_write(step: "Future[Any]", write: Callable[[], object]) -> float:
    """Seconds of the longest write, done again and again until the step has ended, and once more."""
    longest, is_last = 0.0, False
    while not is_last:
        is_last = step.done()
        began = time.monotonic()
        write()
        longest = max(longest, time.monotonic() - began)
    return longest


def waits(
    app: Flask, files: SlowFiles, wake: Wake, receipt: Callable[[], object], update: Callable[[], object]
) -> tuple[float, float]:
    """Does the step, and both writes from when it holds its rows on; their longest waits, in seconds."""
    with background(app) as start:
        step = start(do, wake)
        wait_until(lambda: files.asked > 0 or step.done())  # rows are locked when S3 has said where the files are
        writes = [start(longest_write, step, write) for write in (receipt, update)]
        step.result()
        receipt_seconds, update_seconds = (write.result() for write in writes)
    return receipt_seconds, update_seconds


@pytest.mark.parametrize(("speed", "seconds"), [("slow", SLOW_SECONDS), ("fast", 0)])
def test_a_writer_waits_no_longer_than_a_step_may_hold_its_rows(
    app: Flask,
    connection: Connection,
    administrator_engine: Engine,
    settings: Settings,
    files: SlowFiles,
    capsys: pytest.CaptureFixture[str],
    speed: str,
    seconds: float,
) -> None:
    service = create_service(connection)
    fill(connection, service, "letter", LETTERS, APART)
    for bucket, key in sorted(files_of_letters(connection)):
        files.keys[bucket].append(key)
    oldest, second = connection.execute(text("SELECT id FROM notifications ORDER BY created_at, id LIMIT 2")).scalars()

    def receipt() -> None:
        assert update_notification_status(oldest, "returned-letter") is not None

    def update() -> None:
        with administrator_engine.begin() as other:
            other.execute(text("UPDATE notifications SET sent_by = 'dvla' WHERE id = :id"), {"id": second})

    [wake] = open_chains(service, "letter")
    files.seconds = seconds
    of_receipt, of_update = waits(app, files, wake, receipt, update)
    [step] = steps(connection)
    sentence = (
        f"{speed} S3, {step['moved']:,} of {LETTERS:,} letters moved: a receipt waited {of_receipt:.2f} s at most, a "
        f"plain UPDATE {of_update:.2f} s (budget {BUDGET_SECONDS} s, lease {settings.lease_seconds:g} s)"
    )
    with capsys.disabled():
        print(f"\n{sentence}")
    assert max(of_receipt, of_update) < settings.lease_seconds, sentence

    files.seconds = 0
    for _ in range(MOST_ROUNDS):  # on a busy machine, a fast S3 is too slow now and then
        row = chain(connection, wake)
        if row["state"] == "ended":
            break
        change(connection, wake, "due_at = now()")
        do_all([replace(wake, step=row["step"])])
    assert (live(connection), len(history(connection))) == (set(), LETTERS)
    status = text("SELECT notification_status FROM notification_history WHERE id = :id")
    assert connection.execute(status, {"id": oldest}).scalar_one() == "returned-letter"
