"""A copy of a user's data: asked for, built in the background, linked to in an email, removed when its time is up.

The row in `user_exports` says what is due, messages only wake it. Whoever builds an export has a lease of it; one that
is killed is followed by another, which begins anew. An export outlives its account; nothing is kept after its time.
"""

import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app import clock
from app.accounts import export_archive, mail, texts
from app.accounts.errors import GhostUser, UnknownUser, WrongState
from app.accounts.export_archive import NobodyThere, Written
from app.accounts.export_files import Files
from app.accounts.inactivity import Send
from app.accounts.mail import MailRefused, MailUnavailable, Message
from app.accounts.tokens import new_token, token_hash
from app.accounts.tools import tools
from app.config import Settings
from app.dao import turns_dao, user_exports_dao
from app.dao.user_exports_dao import EXPORTS, Export, Fetchable
from app.db import db
from app.engine import leases, stops
from app.engine.leases import BackOff, LeaseLost
from app.engine.singly import act_on_each
from app.models import GHOST_USER_ID
from app.refusals import refusal_of
from app.state import asked
from app.state.findings import ACCOUNTS
from app.storage.client import Deadline, Requests, worst_seconds_per_request
from app.storage.deletion import delete
from app.storage.errors import BucketRefuses, Stopped
from app.storage.listing import shelf
from app.storage.upload import Upload, abort_all

log = structlog.get_logger(__name__)

MOST_ATTEMPTS = 8
"""To build an export, and then to send its link, or the word that it failed."""
EXPORTS_PER_STEP = 100
RECORDS_PER_PURGE = 1000
SECONDS_OF_A_LINK = 60
"""A browser follows it at once."""
SHARE_OF_LEASE = 0.8
"""An export that is not built in this share of its lease stops, before another worker begins it anew."""
LOST = "WorkerLost"


@dataclass(frozen=True)
class Asked:
    """The export that a request is answered with: a new one, or the one that is under way or was just made."""

    id: UUID
    state: str


def request(user_id: UUID, now: datetime) -> Asked:
    """Ask for an export of the user's data. While one is under way, or was asked for lately, it is that one.

    Raises UnknownUser, GhostUser, and WrongState when the account is in deletion or no bucket is set.
    """
    settings = tools().settings
    if user_id == GHOST_USER_ID:
        raise GhostUser
    if settings.s3_bucket_exports is None:
        raise WrongState("There are no exports here: no bucket is set for them.")
    with db.transaction() as connection:
        now = db.bounded_now(connection, now)
        user = user_exports_dao.lock_user(connection, user_id)
        if user is None:
            raise UnknownUser(user_id)
        if user.is_in_deletion:
            raise WrongState("The account is being deleted: an export has to be asked for before.")
        since = now - timedelta(hours=settings.export_every_hours)
        current = user_exports_dao.current(connection, user_id, now, since)
        if current is not None:
            export_id, state = current
            return Asked(export_id, state)
        deadline_at = now + timedelta(hours=settings.export_deadline_hours)
        export_id = user_exports_dao.insert(connection, user_id, user.email_address, now, deadline_at)
    log.info("export-requested", user_id=str(user_id), export_id=str(export_id))
    return Asked(export_id, "requested")


def link_for_owner(export_id: UUID, user_id: UUID, now: datetime) -> str | None:
    """A link to the user's own export that S3 honours for a minute; None if there is none to fetch."""
    with db.transaction(read_only=True) as connection:
        found = user_exports_dao.of_owner(connection, export_id, user_id, now)
    return _signed(found, now)


def link_for_token(token: str, now: datetime) -> str | None:
    """The same for whoever has the token of the email: its user's account may be gone."""
    with db.transaction(read_only=True) as connection:
        found = user_exports_dao.of_link(connection, token_hash(token), now)
    return _signed(found, now)


def _signed(found: Fetchable | None, now: datetime) -> str | None:
    """Signed for each request, since a signature ends with the credentials that made it, a role's within hours."""
    settings = tools().settings
    if found is None or settings.s3_bucket_exports is None:
        return None
    disposition = f'attachment; filename="{PurePosixPath(found.object_key).name}"'
    link: str = tools().s3.generate_presigned_url(
        "get_object",
        Params={
            "Bucket": settings.s3_bucket_exports,
            "Key": found.object_key,
            "ResponseContentDisposition": disposition,
        },
        ExpiresIn=max(1, min(SECONDS_OF_A_LINK, int((found.expires_at - now).total_seconds()))),
    )
    return link


def pending(connection: Connection, user_id: UUID, now: datetime) -> bool:
    """Whether an export was asked for that is neither done nor past its deadline. A deletion waits for it."""
    return user_exports_dao.is_pending(connection, user_id, now)


def take_due() -> list[UUID]:
    """Exports that must be built or sent now: a message must go out for each. Gives up what missed its deadline."""
    settings = tools().settings
    with db.transaction() as connection:
        now = db.bounded_now(connection, clock.now())
        late = user_exports_dao.late(connection, now, EXPORTS_PER_STEP)
        missed = act_on_each(connection, late, partial(user_exports_dao.miss_deadline, now=now), "an export's failure")
        due = leases.take_due(
            connection, EXPORTS, now=now, resend_seconds=settings.dispatch_every_seconds, at_most=EXPORTS_PER_STEP
        )
    for export_id in missed:
        log.error("export-missed-deadline", export_id=str(export_id))
    return [row.id for row in due]


def run(export_id: UUID, send: Send = mail.send) -> None:
    """Build the export and send its link, or go on with what is left of that, unless somebody else does."""
    settings = tools().settings
    if settings.s3_bucket_exports is None:
        log.error("no-bucket-for-exports", export_id=str(export_id), fix="set S3_BUCKET_EXPORTS for this worker")
        return  # the relay sends it again, perhaps to a worker that has one
    with db.transaction() as connection:
        now = db.bounded_now(connection, clock.now())
        if asked.is_blocked(connection, ACCOUNTS):
            return  # the relay sends it again
        claimed = _claim(connection, settings, export_id, now)
        if claimed is not None and claimed.lease.attempts > MOST_ATTEMPTS:
            _give_up(connection, claimed, LOST)  # each was counted, and none came back
            claimed = None
    try:
        if claimed is not None and claimed.state == "running":
            claimed = _build(settings, claimed)
        if claimed is not None:
            _email(settings, claimed, send)
    except LeaseLost:
        log.warning("export-lease-lost", export_id=str(export_id))


def _claim(connection: Connection, settings: Settings, export_id: UUID, now: datetime) -> Export | None:
    seconds, retry = settings.task_time_limit_seconds, BackOff(settings.account_retry_seconds)
    taken = leases.acquire(connection, EXPORTS, export_id, now=now, seconds=seconds, retry=retry)
    if taken is None:
        return None
    lease, row = taken
    return Export(**row, lease=lease)


def key_of(export_id: UUID) -> str:
    """The key of an export's object."""
    return f"exports/{export_id}.zip"


def _requests(seconds: float) -> Requests:
    return Requests(Deadline(seconds), worst_seconds_per_request(tools().s3))


def _build(settings: Settings, export: Export) -> Export | None:
    """The export with its object, or None when that failed. Raises LeaseLost."""
    seconds = SHARE_OF_LEASE * settings.task_time_limit_seconds
    began = time.monotonic()
    try:
        written = _write(settings, export, seconds)
        with db.transaction() as connection:
            built = _note_ready(connection, settings, export, written)
    except NobodyThere:
        with db.transaction() as connection:
            _give_up(connection, export, "NoSuchUser")
        return None
    except (Stopped, BucketRefuses) as error:
        _put_off(settings, export, error.reason if isinstance(error, Stopped) else error.code)
        return None
    except DBAPIError as error:
        _put_off(settings, export, str(refusal_of(error)))
        return None
    log.info(
        "export-ready",
        user_id=str(export.user_id),
        export_id=str(export.id),
        rows=written.rows,
        files=built.files,
        files_left_out=built.files_left_out,
        seconds=round(time.monotonic() - began, 3),
    )
    return built


def _note_ready(connection: Connection, settings: Settings, export: Export, written: Written) -> Export:
    """The object is there, and its link is to be sent under the same lease. Raises LeaseLost, and Stopped."""
    now = db.bounded_now(connection, clock.now())
    _require_time(export, now)
    files, left_out = _counted(written.files)
    row = leases.change(
        connection,
        export.lease,
        progress=False,
        attempts=1,  # this one's, to send the link
        state="ready",
        failure=None,
        object_key=key_of(export.id),
        ready_at=now,
        expires_at=now + timedelta(days=settings.export_kept_days),
        files=files,
        files_left_out=left_out,
    )
    return Export(**row, lease=replace(export.lease, attempts=1))


def _require_time(export: Export, now: datetime) -> None:
    """Raise Stopped past the deadline: a deletion no longer waits, and may have begun to take the data away."""
    if now >= export.deadline_at:
        raise Stopped("Deadline")


def _counted(files: Files | None) -> tuple[int | None, int | None]:
    """Files in the archive, and those left out."""
    return (None, None) if files is None else (files.included, files.left_out.total())


def _write(settings: Settings, export: Export, seconds: float) -> Written:
    """Write the object; a whole one is there only if this returns. Raises as export_archive.write does."""
    s3, bucket, key = tools().s3, _bucket(settings), key_of(export.id)
    requests = _requests(seconds)
    abort_all(s3, requests, bucket, key)
    with Upload(s3, requests, bucket, key, "application/zip") as upload:
        written = export_archive.write(upload, export.user_id, clock.now(), Deadline(seconds))
        with db.transaction() as connection:
            now = db.bounded_now(connection, clock.now())
            _require_time(export, now)
            until = now + timedelta(seconds=settings.task_time_limit_seconds)
            leases.change(connection, export.lease, progress=False, lease_until=until)
        upload.finish()
    return written


def _email(settings: Settings, export: Export, send: Send) -> None:
    """Send the link, or the word that there is none. A worker killed before it is recorded costs one email more."""
    if export.email_address is None:
        return  # it was sent
    try:
        send(export.email_address, _message(settings, export))
    except MailUnavailable as error:
        _put_off(settings, export, error.code)
        return
    except MailRefused as error:
        with db.transaction() as connection:
            _give_up(connection, export, error.code)
        return
    with db.transaction() as connection:
        _close_email(connection, export, clock.now(), None)
    log.info("export-emailed", export_id=str(export.id), state=export.state)


def _message(settings: Settings, export: Export) -> Message:
    if export.state == "failed" or export.expires_at is None:
        return texts.export_failed(settings)
    link = _new_link(settings, export)
    return texts.export_ready(settings, link=link, until=export.expires_at, left_out=export.files_left_out or 0)


def _new_link(settings: Settings, export: Export) -> str:
    """Where the email leads, remembered before it is sent. One that is sent again leads to the same by another link."""
    token = new_token()
    with db.transaction() as connection:
        leases.change(connection, export.lease, progress=False, link_hash=token_hash(token))
    link = settings.export_link or f"{settings.site_url.rstrip('/')}/exports/{{token}}"
    return link.replace("{token}", token).replace("{id}", str(export.id))


def _bucket(settings: Settings) -> str:
    """The exports' bucket. Nobody gets here without one."""
    if settings.s3_bucket_exports is None:
        raise AssertionError("there is no bucket for exports")
    return settings.s3_bucket_exports


def _put_off(settings: Settings, export: Export, failure: str) -> None:
    with db.transaction() as connection:
        if export.lease.attempts >= MOST_ATTEMPTS:
            _give_up(connection, export, failure)
            return
        due_at = clock.now() + BackOff(settings.account_retry_seconds).after(export.lease.attempts)
        leases.give_back(connection, export.lease, failed=True, due_at=due_at, **_why(export, failure))
    log.warning("export-put-off", export_id=str(export.id), attempt=export.lease.attempts, error=failure)


def _give_up(connection: Connection, export: Export, failure: str) -> None:
    """What is built stays until its time is up, although its link could not be sent: the user may ask for help.

    What can't be built is due again, so that its user is told.
    """
    if export.state in ("ready", "failed"):
        _close_email(connection, export, None, failure)
    else:
        now = clock.now()
        leases.give_back(connection, export.lease, due_at=now, state="failed", failure=failure, expires_at=now)
    log.error("export-given-up", export_id=str(export.id), state=export.state, error=failure)


def _close_email(connection: Connection, export: Export, emailed_at: datetime | None, failure: str | None) -> None:
    """The link, or the word that there is none, was sent or is given up for `failure`: the address is forgotten."""
    closed: dict[str, Any] = {"emailed_at": emailed_at, "email_address": None, **_why(export, failure)}
    leases.give_back(connection, export.lease, due_at=clock.now(), **closed)


def _why(export: Export, failure: str | None) -> dict[str, Any]:
    """Why an export failed stays what it says of itself, not why the email about that did."""
    return {} if export.state == "failed" else {"failure": failure}


def remove_expired() -> bool:
    """Remove exports whose time is up, object, versions and parts. Returns whether there may be more of them."""
    settings = tools().settings
    if settings.s3_bucket_exports is None:
        return False
    with db.transaction(read_only=True) as connection:
        if asked.is_blocked(connection, ACCOUNTS):
            return False
        now = db.bounded_now(connection, clock.now())
        expired = user_exports_dao.expired(connection, now, EXPORTS_PER_STEP)
    requests, is_held = _requests(settings.step_budget_seconds), False
    for export_id, user_id, attempts in expired:
        try:
            _remove(settings.s3_bucket_exports, export_id, user_id, requests)
        except stops.Held as held:
            is_held = True
            log.info("export-held", export_id=str(export_id), why=str(held))
        except (Stopped, BucketRefuses) as error:
            code = error.reason if isinstance(error, Stopped) else error.code
            log.error("export-not-removed", export_id=str(export_id), error=code)
            with db.transaction() as connection:
                due_at = now + BackOff(settings.account_retry_seconds).after(attempts + 1)
                user_exports_dao.try_removal_again(connection, export_id, due_at)
            if isinstance(error, Stopped):
                return False
    return len(expired) == EXPORTS_PER_STEP and not is_held


def _remove(bucket: str, export_id: UUID, user_id: UUID, requests: Requests) -> None:
    """Raises Held, Stopped, or BucketRefuses when S3 has not said of every version that it is gone."""
    with db.transaction(idle_seconds=tools().settings.lease_seconds) as connection:
        stops.require_none(connection, stops.turn(turns_dao.EXPORTS), users=[user_id])
        _remove_object(bucket, export_id, requests)
        user_exports_dao.removed(connection, export_id)
    log.info("export-removed", export_id=str(export_id))


def _remove_object(bucket: str, export_id: UUID, requests: Requests) -> None:
    s3, key = tools().s3, key_of(export_id)
    abort_all(s3, requests, bucket, key)
    page = shelf(s3, requests, bucket).page(key, {})
    deletion = delete(s3, {export_id: page.files}, requests)
    if deletion.stopped:
        raise Stopped(deletion.stopped)
    if page.files and (export_id not in deletion.gone or page.next is not None):
        raise BucketRefuses(deletion.failed.get(export_id) or next(iter(deletion.broken.values()), "Unconfirmed"))


def purge_records() -> bool:
    """Forget exports that ended long ago, a batch of them. Returns whether there may be more.

    Those of users on hold stay, and all of them while the pipeline is paused.
    """
    with db.transaction() as connection:
        if stops.stopped(connection, stops.turn(turns_dao.RECORDS)) or asked.is_blocked(connection, ACCOUNTS):
            return False
        now = db.bounded_now(connection, clock.now())
        before = now - timedelta(days=tools().settings.deletion_records_kept_days)
        past = user_exports_dao.past(connection, before, RECORDS_PER_PURGE)
        purged = act_on_each(connection, past, user_exports_dao.forget, "the end of an export's record")
    if purged:
        log.info("export-records-purged", records=len(purged))
    return len(purged) == RECORDS_PER_PURGE
