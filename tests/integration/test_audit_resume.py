"""An audit that is killed anywhere goes on where it was, and comes to the same result as one that was not.

Real processes, SIGKILL, many pages. Seen to fail: `>=` for `>` at the last key, and the step's number not compared.
"""

import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from app.celery import audit_tasks
from app.retention import audit
from app.retention.tools import tools
from app.storage import inventory, listing
from app.storage.client import Deadline
from dev.product import ROOT
from tests.audits import all_buckets, everything, key_of, put, reference, run
from tests.factories import create_letter, create_service, days_ago
from tests.forkserver import worker_process

KEYS_PER_PAGE = 20
SECONDS_TO_END = 120

# Goes on with the audit, and kills itself at the Nth page: before its commit, or behind it.
AUDITOR = """
import os, signal, sys
from app import create_app
from app.dao import audit_dao
from app.retention import audit
from app.storage import listing
from app.storage.client import Deadline

listing.KEYS_PER_PAGE, at, moment = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
pages = 0

def count(*_):
    global pages
    pages += 1
    if pages == at:
        os.kill(os.getpid(), signal.SIGKILL)

advance = audit_dao.advance
if moment == "before":
    audit_dao.advance = lambda *values, **more: count() or advance(*values, **more)
with create_app().app_context():
    current = audit.under_way()
    while current.finished_at is None:
        current = audit.go_on(current, watch=count if moment == "behind" else None).audit
"""
COUNTS = (
    "files_seen",
    "files_without_row",
    "files_of_history",
    "files_within_retention",
    "files_young",
    "files_misplaced",
    "unrecognised_files",
    "deleted_files",
    "rows_seen",
    "rows_without_file",
    "rows_in_mixed_case",
)


@pytest.fixture
def settings_override(proxy):
    return {"AUDIT_MARGIN_HOURS": "0.000001", "AWS_ENDPOINT_URL_S3": proxy.url}


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr(listing, "KEYS_PER_PAGE", KEYS_PER_PAGE)


def plant_many(connection, s3):
    """Several hundred files over many folders and pages; how many of them are without a row."""
    names = tools().naming.buckets
    service = create_service(connection, letter=30)
    without_row = 0
    for number in range(120):
        create_letter(connection, s3, service, days_ago(3 + number % 20), file=number % 10 > 0)
        if number % 3 == 0:
            put(s3, names.letters, key_of(reference(), days_ago(40 + number % 40)), 1 + number % 4)
            without_row += 1
        if number % 4 == 0:
            put(s3, names.test_letters, key_of(reference(), folder=""))
            without_row += 1
        if number % 12 == 0:
            put(s3, names.letters, f"strange/{number}")
    return without_row


@pytest.fixture
def auditor(environment, settings, tmp_path):
    """Start a process that goes on with the audit under way."""
    return partial(start_auditor, tmp_path / "auditor.log", environment, settings)


def start_auditor(log: Path, environment, settings, at=0, moment="behind", keys_per_page=KEYS_PER_PAGE):
    variables = {**environment, "AUDIT_MARGIN_HOURS": "0.000001", "AWS_ENDPOINT_URL_S3": settings.aws_endpoint_url_s3}
    arguments = [sys.executable, "-c", AUDITOR, str(keys_per_page), str(at), moment]
    return worker_process("auditor", arguments, log=log, env=variables, cwd=ROOT)


def result(connection, audit_id):
    """Everything that an audit has said."""
    row = connection.execute(text("SELECT * FROM retention.audits WHERE id = :id"), {"id": audit_id}).mappings().one()
    found = connection.execute(
        text(
            "SELECT kind, bucket, folder, key_sha256, notification_id FROM retention.audit_findings "
            "WHERE audit_id = :id ORDER BY 1, 4, 5"
        ),
        {"id": audit_id},
    ).all()
    return {name: row[name] for name in COUNTS}, found


def test_an_audit_that_is_killed_again_and_again_comes_to_the_same_result(app, connection, s3, buckets, auditor):
    without_row = plant_many(connection, s3)
    whole, _ = run()
    assert (whole.files_without_row, whole.rows_without_file, whole.unrecognised_files) == (without_row, 12, 10)
    assert whole.files_seen > 9 * KEYS_PER_PAGE
    killed = audit.begin("me")
    for at, moment in ((2, "before"), (3, "behind"), (4, "behind")):
        assert auditor(at, moment).wait(SECONDS_TO_END) == -signal.SIGKILL
        assert audit.under_way().id == killed.id
    assert auditor().wait(SECONDS_TO_END) == 0
    assert result(connection, killed.id) == result(connection, whole.id)


@pytest.mark.parametrize("moment", ["before_delete", "after_delete"])
def test_a_deletion_that_is_killed_goes_on_and_says_what_it_does_not_know(
    app, connection, s3, buckets, auditor, proxy, moment
):
    without_row = plant_many(connection, s3)
    kept = run()[0].files_seen - without_row
    killed = audit.begin("me", deletes=True)
    started = []

    def kill():
        started[0].ask_to_stop(signal.SIGKILL)
        started[0].wait(SECONDS_TO_END)

    setattr(proxy, moment, kill)
    started.append(auditor())
    assert started[0].wait(SECONDS_TO_END) == -signal.SIGKILL
    setattr(proxy, moment, lambda: None)
    assert auditor().wait(SECONDS_TO_END) == 0
    asked = connection.execute(text("SELECT asked, files FROM retention.audit_deletions ORDER BY id")).all()
    (unknown,) = [asked for asked, files in asked if files is None]
    counts, _ = result(connection, killed.id)
    # A file that went with the killed process is in no count, and in the record that it left.
    lost = without_row - counts["deleted_files"]
    assert lost in (0, unknown)
    assert counts["files_seen"] == kept + without_row - lost
    assert (counts["files_without_row"], sum(files for _, files in asked if files)) == (0, counts["deleted_files"])
    after, _ = run()
    assert (after.files_seen, after.files_without_row) == (kept, 0)


def test_every_key_is_read_once_whatever_is_deleted_meanwhile(app, connection, s3, buckets):
    """Every other page's last key is deleted before the next one is read, in this process and in the next."""
    keys = sorted(f"folder-{number // 30}/{number:03}" for number in range(90))
    for number, key in enumerate(keys):
        put(s3, buckets.letters, key, 1 + number % 3)
    read, after = [], None
    for _ in range(100):
        inventory_ = tools().files.inventory(buckets.letters, Deadline(600), after, None)
        for _ in range(2):
            page = inventory_.read()
            if page:
                read += [(one.key, len(one.files)) for one in page]
                after = page[-1].key
                going = page[-1].files if len(read) % 2 else ()
                for file in going:
                    more = {} if file.version_id is None else {"VersionId": file.version_id}
                    s3.delete_object(Bucket=file.bucket, Key=file.key, **more)
        if page is None:
            break
    versions = 1 if isinstance(inventory_, inventory.ObjectInventory) else None
    assert read == [(key, versions or 1 + number % 3) for number, key in enumerate(keys)]


def test_who_was_overtaken_writes_nothing(app, connection, s3):
    for _ in range(3):
        put(s3, all_buckets()[0], key_of(reference()))
    first = audit.begin("me")

    def stop(_):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        audit.go_on(first, watch=stop)
    other = audit.under_way()
    with pytest.raises(audit.Overtaken):
        audit.go_on(first)
    assert (audit.under_way(), other.files_seen) == (other, 3)
    ended = audit.finish(other)
    with pytest.raises(audit.Overtaken):
        audit.go_on(replace(ended, finished_at=None))
    assert (audit.last_finished(), ended.files_seen) == (ended, 3)


def test_the_task_goes_on_step_by_step_until_the_audit_has_ended(app, connection, s3, monkeypatch):
    """A turn is cut short after its first page; its message goes on with the next."""
    without_row = 50
    for _ in range(without_row):
        put(s3, all_buckets()[0], key_of(reference()))
    sent = []
    monkeypatch.setattr(audit_tasks.audit_letter_files, "apply_async", lambda **message: sent.append(message["kwargs"]))
    monkeypatch.setattr(audit, "Deadline", lambda _seconds: _Pages(3))
    audit_tasks.audit_letter_files()
    messages = 0
    while sent:
        message = sent.pop()
        messages += 1
        audit_tasks.audit_letter_files(**message)
        audit_tasks.audit_letter_files(**message)  # twice: the second is stale
        assert len(sent) <= 1
    ended = audit.last_finished()
    assert messages > 1
    assert (ended.files_without_row, ended.started_by, ended.deletes) == (without_row, "schedule", False)
    assert len(everything(s3)[all_buckets()[0]]) == without_row
    audit_tasks.audit_letter_files()
    assert sent == [], "the next one is not due yet"


class _Pages:
    """A deadline after so many requests."""

    def __init__(self, requests):
        self._requests = requests

    def remaining(self):
        self._requests -= 1
        return 600.0 if self._requests >= 0 else 0.0


def test_a_message_that_would_delete_is_refused(app, connection, s3):
    put(s3, all_buckets()[0], key_of(reference()))
    current = audit.begin("me", deletes=True)
    before = everything(s3)
    with pytest.raises(ValueError, match="gone on with by a person"):
        audit_tasks.audit_letter_files(current.id, current.step)
    assert everything(s3) == before
