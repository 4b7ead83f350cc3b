"""The buckets of an audit, key by key.

The rows are read as they were before a page was listed. So a letter that a step moves meanwhile still has its row, and
what is found without one was there when its row was not.
"""

from dataclasses import replace
from datetime import timedelta

from app.dao import audit_dao
from app.dao.audit_dao import Audit, Counts
from app.db import db
from app.retention import audit_deletion, audit_judgement
from app.retention.audit_progress import Page, Stand, Work, advance
from app.storage import object_keys
from app.storage.errors import BucketRefuses
from app.storage.naming import Buckets


def buckets_of(buckets: Buckets) -> list[str]:
    """The names of the letter buckets, each once."""
    return list(dict.fromkeys((buckets.letters, buckets.test_letters, buckets.invalid_pdf, buckets.letters_scan)))


def buckets_to_read(audit: Audit, buckets: Buckets) -> list[str]:
    """Those of the audit's scope. Folders by day are in the letters' bucket alone."""
    if audit.only_bucket:
        return [audit.only_bucket]
    return [buckets.letters] if audit.since or audit.until else buckets_of(buckets)


def go_on(audit: Audit, work: Work) -> Audit:
    """Read the bucket that the audit has come to, to its end. Raises Stopped and Overtaken."""
    buckets = buckets_to_read(audit, work.tools.naming.buckets)
    bucket = audit.place or buckets[0]
    audit = _read(audit, bucket, work)
    following = buckets[buckets.index(bucket) + 1 :]
    stand = Stand("files", following[0]) if following else Stand("rows", None)
    with db.transaction() as connection:
        return advance(connection, audit, work, stand, Counts())


def _read(audit: Audit, bucket: str, work: Work) -> Audit:
    """To the bucket's end, or until it refuses, which is noted: the others go on."""
    after = str(audit.since) if audit.since else None
    if audit.position:
        after = object_keys.from_column(audit.position)
    before = str(audit.until + timedelta(days=1)) if audit.until else None
    try:
        inventory = work.tools.files.inventory(bucket, work.deadline, after, before)
        while True:
            with db.transaction(read_only=True, isolation_level="REPEATABLE READ") as as_it_was:
                rules = audit_judgement.rules(as_it_was, work.tools.settings, work.now)
                keys = inventory.read()
                page = audit_judgement.judge(as_it_was, keys or [], rules, work)
            if keys is None:
                return audit
            if keys:
                audit = _record(audit, Stand("files", bucket, object_keys.to_column(keys[-1].key)), page, work)
                work.show(audit)
    except BucketRefuses as refusal:
        refused = f"{bucket}: {refusal.code}"
        return replace(audit, refused=f"{audit.refused}, {refused}" if audit.refused else refused)


def _record(audit: Audit, stand: Stand, page: Page, work: Work) -> Audit:
    if audit.deletes and page.without_row:
        return audit_deletion.delete(audit, stand, page, work)
    with db.transaction() as connection:
        audit_dao.see_letters(connection, page.letters)
        advanced = advance(connection, audit, work, stand, page.counts(), page.findings)
        work.tell(page.findings)
    return advanced
