"""Files that are finished: read again and compared with the manifest, deleted at their second age, and redacted."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import structlog

from app import clock
from app.archive import files, parquet, policy
from app.archive.files import Differs
from app.archive.tools import Tools
from app.dao import archives_dao
from app.dao.archives_dao import Archive
from app.dao.turns_dao import ARCHIVE
from app.db import db
from app.engine import stops
from app.storage import archived
from app.storage.client import Deadline

log = structlog.get_logger(__name__)

MOST_FILES_A_TURN = 1000
SECONDS_A_FILE = 120.0


@dataclass(frozen=True)
class Checked:
    """A file that was read again; `problem` is None where it is as the manifest says."""

    archive: Archive
    problem: str | None


def verify(tools: Tools, chosen: Sequence[Archive], watch: Callable[[Checked], None] = lambda _: None) -> list[Checked]:
    """Read these files again: size, SHA-256 and rows. Raises Stopped or BucketRefuses."""
    found = []
    for archive in chosen:
        requests = tools.requests(Deadline(SECONDS_A_FILE))
        problem = None
        try:
            files.rows_of(tools, requests, archive)
        except (Differs, archived.Gone) as error:
            problem = str(error)
            log.error("archive-damaged", archive=archive.id, key=archive.key, why=problem)
        with db.transaction() as connection:
            archives_dao.note_verified(connection, archive, None if problem else clock.now(), problem)
        found.append(Checked(archive, problem))
        watch(found[-1])
    return found


def sample(tools: Tools, share: float) -> list[Archive]:
    """So large a share of the finished files, at least one, those first that were not read for longest."""
    of = policy.history(tools.settings)
    with db.transaction(read_only=True) as connection:
        count = archives_dao.count_done(connection, of.table)
        return archives_dao.longest_unverified(connection, of.table, math.ceil(count * share))


def verify_sample(tools: Tools) -> list[Checked]:
    """The weekly sample, for a step's time."""
    deadline = Deadline(tools.settings.step_budget_seconds)
    found: list[Checked] = []
    for archive in sample(tools, tools.settings.archive_verify_share):
        if deadline.remaining() < tools.settings.step_budget_seconds / 2:
            break
        found += verify(tools, [archive])
    log.info("archives-verified", files=len(found), damaged=sum(one.problem is not None for one in found))
    return found


def expire(tools: Tools) -> int:
    """Delete files at their second age, with all versions, unless a service of theirs is on hold. Returns how many."""
    days = tools.settings.archive_kept_days
    if days is None:
        return 0
    of = policy.history(tools.settings)
    deadline = Deadline(tools.settings.step_budget_seconds)
    expired = 0
    while deadline.remaining() > tools.settings.step_budget_seconds / 2:
        now = clock.now()
        with db.transaction() as connection:
            if stops.standing(connection, stops.turn(ARCHIVE)).is_paused:
                return expired
            before = db.bounded_now(connection, now) - timedelta(days=days)
            archive = archives_dao.take_expired(connection, of.table, before, uuid4(), now, files.lease(now))
        if archive is None:
            return expired
        with db.transaction(idle_seconds=SECONDS_A_FILE) as connection:
            # A hold that is placed from now on waits for this commit; one that was placed before is seen.
            standing = stops.standing(connection, stops.turn(ARCHIVE))
            archives_dao.lock(connection, archive)
            if standing.is_paused or standing.services & set(archive.services or ()):
                archives_dao.release(connection, archive, None)
                return expired
            archived.delete_all(tools.s3, tools.requests(deadline), archive.bucket, archive.key)
            archives_dao.set_expired(connection, archive, now)
        expired += 1
        log.info("archive-expired", archive=archive.id, window=archive.window_from.isoformat())
    return expired


class OnHold(RuntimeError):
    """A service of the rows is on hold, or the pipeline is paused: nothing is rewritten."""


def holding_rows_of(tools: Tools, *, service: UUID | None = None) -> list[Archive]:
    """The files that can hold rows of a service, or of anybody."""
    with db.transaction(read_only=True) as connection:
        return archives_dao.holding(connection, policy.history(tools.settings).table, service=service)


def redact(tools: Tools, archive: Archive, *, service: UUID | None = None, ids: Collection[UUID] = ()) -> int:
    """Take the rows of a service, or those with these ids, out of a file: it is written anew without them, read back,
    and the old one deleted with all its versions. Returns how many rows went.

    Raises OnHold, Differs, LeaseLost, Stopped, BucketRefuses or NotDeleted: until the new file is verified the old one
    is as it was.
    """
    now = clock.now()
    # Leased before it is read: what another redaction takes out meanwhile must not come back.
    with db.transaction() as connection:
        archive = archives_dao.take_done(connection, archive, uuid4(), now, files.lease(now))
    try:
        archive = _without_left_over(tools, archive)
        rows = files.rows_of(tools, tools.requests(Deadline(SECONDS_A_FILE)), archive)
        column, values = ("service_id", [service]) if service is not None else ("id", list(ids))
        chosen = [value.bytes for value in values if value is not None]
        going = parquet.only(rows, column, chosen)
        if len(going):
            kept = parquet.without(rows, column, chosen)
            _replace(tools, archive, kept, parquet.uuids(going, "service_id"))
    finally:
        with db.transaction() as connection:
            archives_dao.release(connection, archive, None)
    if len(going):
        log.info("archive-redacted", archive=archive.id, rows=len(going))
    return len(going)


def delete_left_over(tools: Tools) -> None:
    """Delete what redactions that were interrupted left beside their files."""
    of = policy.history(tools.settings)
    while True:
        now = clock.now()
        with db.transaction() as connection:
            if stops.is_paused(connection):
                return
            archive = archives_dao.take_left_over(connection, of.table, uuid4(), now, files.lease(now))
        if archive is None:
            return
        try:
            _without_left_over(tools, archive)
        finally:
            with db.transaction() as connection:
                archives_dao.release(connection, archive, archive.retry_at)


def _without_left_over(tools: Tools, archive: Archive) -> Archive:
    if archive.key_to_delete is None:
        return archive
    requests = tools.requests(Deadline(SECONDS_A_FILE))
    archived.delete_all(tools.s3, requests, archive.bucket, archive.key_to_delete)
    with db.transaction() as connection:
        return archives_dao.set_key_to_delete(connection, archive, None)


def _replace(tools: Tools, archive: Archive, kept: Any, going: Collection[UUID]) -> None:
    requests = tools.requests(Deadline(SECONDS_A_FILE))
    rows, put, key = kept, None, archive.key
    if len(kept):
        stem = archive.key.removesuffix(".parquet").partition("-without-")[0]
        key = f"{stem}-without-{uuid4().hex[:8]}.parquet"
        with db.transaction() as connection:
            archive = archives_dao.set_key_to_delete(connection, archive, key)
        rows, put = files.put_file(tools, requests, key, [kept], kept.schema)
        new = replace(
            archive,
            key=key,
            version_id=put.stored.version_id,
            etag=put.etag,
            bytes=put.bytes,
            sha256=put.sha256,
            rows=len(rows),
        )
        if not files.rows_of(tools, requests, new).equals(rows):
            raise Differs("the new file has other rows than were to be kept")
    with db.transaction(idle_seconds=SECONDS_A_FILE) as connection:
        standing = stops.standing(connection, stops.turn(ARCHIVE))
        is_stopped = standing.is_paused or bool(standing.services & set(going))
        archives_dao.lock(connection, archive)
        if put is None and not is_stopped:
            archived.delete_all(tools.s3, requests, archive.bucket, archive.key)
            archives_dao.set_expired(connection, archive, clock.now())
        elif put is not None and not is_stopped:
            archive = archives_dao.set_rewritten(
                connection, archive, key=key, version_id=put.stored.version_id, etag=put.etag, bytes_=put.bytes,
                sha256=put.sha256, rows=len(rows), services=sorted(parquet.uuids(rows, "service_id")), now=clock.now(),
            )  # fmt: skip
    _without_left_over(tools, archive)
    if is_stopped:
        raise OnHold(OnHold.__doc__)
