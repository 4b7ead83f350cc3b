"""A copy of a user's data: asked for, built in the background, linked to in an email, removed when its time is up.

The row in `user_exports` says what is due, messages only wake it. Whoever builds an export has a lease of it; one that
is killed is followed by another, which begins anew. An export outlives its account; nothing is kept after its time.
"""

import time
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import Connection

from app import clock
from app.accounts import export_archive, mail, texts
from app.accounts.backoff import next_attempt
from app.accounts.errors import GhostUser, UnknownUser, WrongState
from app.accounts.export_archive import NobodyThere
from app.accounts.inactivity import Send
from app.accounts.mail import MailRefused, MailUnavailable, Message
from app.accounts.tools import tools
from app.config import Settings
from app.dao import user_exports_dao
from app.dao.user_exports_dao import Export
from app.db import db
from app.models import GHOST_USER_ID
from app.storage.client import Deadline, Requests, worst_seconds_per_request
from app.storage.deletion import delete
from app.storage.errors import BucketRefuses, Stopped
from app.storage.listing import shelf
from app.storage.upload import Upload, abort_all

log = structlog.get_logger(__name__)

MOST_ATTEMPTS = 8
"""To build an export, and then to send its link, or the word that it failed."""
EXPORTS_PER_STEP = 100
SHARE_OF_LEASE = 0.8
"""An export that is not built in this share of its lease stops, before another worker begins it anew."""
LOST = "WorkerLost"


def request(user_id: UUID, now: datetime) -> UUID:
    """Ask for an export of the user's data. Returns its id.

    Raises UnknownUser, GhostUser, and WrongState when one is under way, the account is in deletion, or no bucket set.
    """
    settings = tools().settings
    if user_id == GHOST_USER_ID:
        raise GhostUser
    if settings.s3_bucket_exports is None:
        raise WrongState("There are no exports here: no bucket is set for them.")
    with db.transaction() as connection:
        user = user_exports_dao.lock_user(connection, user_id)
        if user is None:
            raise UnknownUser(user_id)
        if user.is_in_deletion:
            raise WrongState("The account is being deleted: an export has to be asked for before.")
        if pending(connection, user_id, now):
            raise WrongState("An export was asked for already, and is under way.")
        deadline_at = now + timedelta(hours=settings.export_deadline_hours)
        export_id = user_exports_dao.insert(connection, user_id, user.email_address, now, deadline_at)
    log.info("export-requested", user_id=str(user_id), export_id=str(export_id))
    return export_id


def pending(connection: Connection, user_id: UUID, now: datetime) -> bool:
    """Whether an export was asked for that is neither done nor past its deadline. A deletion waits for it."""
    return user_exports_dao.is_pending(connection, user_id, now)


def take_due() -> list[UUID]:
    """Exports that must be built or sent now: a message must go out for each. Gives up what missed its deadline."""
    settings = tools().settings
    now = clock.now()
    with db.transaction() as connection:
        missed = user_exports_dao.miss_deadline(connection, now, EXPORTS_PER_STEP)
        again_at = now + timedelta(seconds=settings.task_time_limit_seconds)
        due = user_exports_dao.take_due(connection, now, again_at, EXPORTS_PER_STEP)
    for export_id in missed:
        log.error("export-missed-deadline", export_id=str(export_id))
    return list(due)


def run(export_id: UUID, send: Send = mail.send) -> None:
    """Build the export and send its link, or go on with what is left of that, unless somebody else does."""
    settings = tools().settings
    if settings.s3_bucket_exports is None:
        log.error("no-bucket-for-exports", export_id=str(export_id), mend="set S3_BUCKET_EXPORTS for this worker")
        return  # the relay sends it again, perhaps to a worker that has one
    now = clock.now()
    with db.transaction() as connection:
        claimed = user_exports_dao.claim(connection, export_id, now, _lease_end(settings, now))
        if claimed is not None and claimed.attempts > MOST_ATTEMPTS:
            _give_up(connection, claimed, LOST)  # each was counted, and none came back
            claimed = None
    if claimed is not None and claimed.state == "running":
        claimed = _build(settings, claimed)
    if claimed is not None:
        _email(settings, claimed, send)


def key_of(export_id: UUID) -> str:
    """The key of an export's object."""
    return f"exports/{export_id}.zip"


def _lease_end(settings: Settings, now: datetime) -> datetime:
    return now + timedelta(seconds=settings.task_time_limit_seconds)


def _requests(seconds: float) -> Requests:
    return Requests(Deadline(seconds), worst_seconds_per_request(tools().s3))


def _build(settings: Settings, export: Export) -> Export | None:
    """The export with its object, or None when that failed or the lease was lost."""
    seconds = SHARE_OF_LEASE * settings.task_time_limit_seconds
    began = time.monotonic()
    try:
        rows = _write(settings, export, seconds)
    except NobodyThere:
        with db.transaction() as connection:
            _give_up(connection, export, "NoSuchUser")
        return None
    except (Stopped, BucketRefuses) as error:
        _put_off(settings, export, error.reason if isinstance(error, Stopped) else error.code)
        return None
    now = clock.now()
    with db.transaction() as connection:
        expires_at = now + timedelta(days=settings.export_kept_days)
        built = user_exports_dao.ready(connection, export, key_of(export.id), now, expires_at)
    if built is None:
        log.warning("export-lease-lost", export_id=str(export.id))
        return None
    log.info(
        "export-ready",
        user_id=str(export.user_id),
        export_id=str(export.id),
        rows=rows,
        seconds=round(time.monotonic() - began, 3),
    )
    return built


def _write(settings: Settings, export: Export, seconds: float) -> int:
    """Write the object; a whole one is there only if this returns. Raises as export_archive.write does."""
    s3, bucket, key = tools().s3, _bucket(settings), key_of(export.id)
    requests = _requests(seconds)
    abort_all(s3, requests, bucket, key)
    with Upload(s3, requests, bucket, key, "application/zip") as upload:
        rows = export_archive.write(upload, export.user_id, clock.now(), Deadline(seconds))
        now = clock.now()
        with db.transaction() as connection:
            if not user_exports_dao.renew(connection, export, now, _lease_end(settings, now)):
                raise Stopped("LeaseLost")
        upload.finish()
    return rows


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
        if not error.is_final:
            _put_off(settings, export, error.code)
            return
        with db.transaction() as connection:
            _give_up(connection, export, error.code)
        return
    with db.transaction() as connection:
        user_exports_dao.close_email(connection, export, clock.now(), None)
    log.info("export-emailed", export_id=str(export.id), state=export.state)


def _message(settings: Settings, export: Export) -> Message:
    if export.state == "failed" or export.expires_at is None:
        return texts.export_failed(site_url=settings.site_url)
    link = tools().s3.generate_presigned_url(
        "get_object",
        Params={"Bucket": _bucket(settings), "Key": str(export.object_key)},
        ExpiresIn=max(1, int((export.expires_at - clock.now()).total_seconds())),
    )
    return texts.export_ready(link=link, until=export.expires_at, zone=settings.zone)


def _bucket(settings: Settings) -> str:
    """The exports' bucket. Nobody gets here without one."""
    if settings.s3_bucket_exports is None:
        raise AssertionError("there is no bucket for exports")
    return settings.s3_bucket_exports


def _put_off(settings: Settings, export: Export, failure: str) -> None:
    now = clock.now()
    with db.transaction() as connection:
        if export.attempts >= MOST_ATTEMPTS:
            _give_up(connection, export, failure)
            return
        due_at = next_attempt(settings, now, export.attempts)
        user_exports_dao.give_back(connection, export, failure, due_at)
    log.warning("export-put-off", export_id=str(export.id), attempt=export.attempts, error=failure)


def _give_up(connection: Connection, export: Export, failure: str) -> None:
    """What is built stays until its time is up, although its link could not be sent: the user may ask for help.

    What can't be built is due again, so that its user is told.
    """
    if export.state in ("ready", "failed"):
        user_exports_dao.close_email(connection, export, None, failure)
    else:
        user_exports_dao.fail(connection, export, failure, clock.now())
    log.error("export-given-up", export_id=str(export.id), state=export.state, error=failure)


def remove_expired() -> bool:
    """Remove exports whose time is up, object, versions and parts. Returns whether there may be more of them."""
    settings = tools().settings
    if settings.s3_bucket_exports is None:
        return False
    now = clock.now()
    with db.transaction(read_only=True) as connection:
        expired = user_exports_dao.expired(connection, now, EXPORTS_PER_STEP)
    requests = _requests(settings.step_budget_seconds)
    for export_id, attempts in expired:
        try:
            _remove(settings.s3_bucket_exports, export_id, requests)
        except (Stopped, BucketRefuses) as error:
            code = error.reason if isinstance(error, Stopped) else error.code
            log.error("export-not-removed", export_id=str(export_id), error=code)
            with db.transaction() as connection:
                user_exports_dao.try_removal_again(connection, export_id, next_attempt(settings, now, attempts + 1))
            if isinstance(error, Stopped):
                return False
    return len(expired) == EXPORTS_PER_STEP


def _remove(bucket: str, export_id: UUID, requests: Requests) -> None:
    """Raises Stopped, or BucketRefuses when S3 has not said of every version that it is gone."""
    s3, key = tools().s3, key_of(export_id)
    abort_all(s3, requests, bucket, key)
    page = shelf(s3, requests, bucket).page(key, {})
    deletion = delete(s3, {export_id: page.files}, requests)
    if deletion.stopped:
        raise Stopped(deletion.stopped)
    if page.files and (export_id not in deletion.gone or page.next is not None):
        raise BucketRefuses(deletion.failed.get(export_id) or next(iter(deletion.broken.values()), "Unconfirmed"))
    with db.transaction() as connection:
        user_exports_dao.removed(connection, export_id)
    log.info("export-removed", export_id=str(export_id))
