"""An export holds all that is the user's and nothing that opens anything; it goes when its time is up.

Seen to fail: a secret column exported; invitations to the address left out, or found by its case; the owner left out of
a query; the board's entries not filtered; the lease not looked at before the object is made; parts of killed workers
left; a plain delete in a bucket with versions; the boundaries of the expiry and of the deadline; the address kept after
the link was sent; a second export at once; the row of the user locked by nobody; the archive held in memory until its
end; the address of a failed export forgotten before its user was told; no bound of the batch that missed its deadline;
the wait taken from the place in the page.
"""

import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import ProxyHandler, build_opener
from uuid import UUID, uuid4

import pytest
from botocore.exceptions import ClientError
from flask import Flask
from sqlalchemy import Connection, insert, text

from app import clock
from app.accounts import deletion, export, export_archive, export_files
from app.accounts.errors import GhostUser, UnknownUser, WrongState
from app.accounts.export import Asked
from app.accounts.export_tables import EXPORTED, NOT_THE_USERS
from app.accounts.mail import MailRefused, MailUnavailable, Message
from app.accounts.tools import tools
from app.celery import export_tasks
from app.db import db
from app.errors import BadArgument
from app.models import (
    GHOST_USER_ID,
    InvitedOrganisationUser,
    InvitedUser,
    LeaderBoard,
    LoginEvent,
    Organisation,
    Permission,
    UserExport,
    UserSession,
    VerifyCode,
    WebauthnCredential,
)
from app.storage.client import Deadline, Requests
from app.storage.errors import OUT_OF_TIME, Stopped
from dev.product import ROOT
from tests.concurrency import background
from tests.factories import create_notification, create_service
from tests.users import address, create_user

NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
BUCKET = "exports-with-versions"
READY, FAILED = (f"The copy of your Notifications data {end}" for end in ("is ready", "could not be made"))
SECRETS = ("secret-password", "secret-token", "secret-code", "secret-key", "secret-data")


class Killed(BaseException):
    """The worker is gone."""


class Outbox:
    """Sends to a list, or refuses."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Message]] = []
        self.error: Exception | None = None

    def __call__(self, to: str, message: Message) -> None:
        if self.error is not None:
            raise self.error
        self.messages.append((to, message))

    @property
    def link(self) -> str:
        (_, message), *_ = self.messages
        return re.findall(r"^http\S+$", message.text, re.MULTILINE)[0]


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {"S3_BUCKET_EXPORTS": BUCKET}


@pytest.fixture(autouse=True)
def bucket(app: Flask, s3: Any) -> Iterator[str]:
    """A bucket with versions, where a plain delete leaves everything."""
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name})
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    yield BUCKET
    for version in versions(s3):
        s3.delete_object(Bucket=BUCKET, **version)
    for upload in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    tools().s3.close()


@pytest.fixture(autouse=True)
def time(app: Flask, monkeypatch: pytest.MonkeyPatch) -> dict[str, datetime]:
    made = {"now": NOW}
    monkeypatch.setattr(clock, "now", lambda: made["now"])
    return made


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


def subjects(outbox: Outbox) -> list[str]:
    return [message.subject for _, message in outbox.messages]


def row(connection: Connection, export_id: UUID) -> Any:
    return connection.execute(text("SELECT * FROM user_exports WHERE id = :id"), {"id": export_id}).one()


def versions(s3: Any) -> list[dict[str, str]]:
    answer = s3.list_object_versions(Bucket=BUCKET)
    found = [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]
    return [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]


def uploads(s3: Any) -> list[str]:
    return [upload["Key"] for upload in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]


def archive(s3: Any, export_id: UUID) -> dict[str, Any]:
    body = s3.get_object(Bucket=BUCKET, Key=f"exports/{export_id}.zip")["Body"].read()
    with zipfile.ZipFile(io.BytesIO(body)) as opened:
        return {name: json.loads(opened.read(name)) for name in opened.namelist()}


def fetch(link: str) -> tuple[int, bytes]:
    try:
        with build_opener(ProxyHandler({})).open(link, timeout=30) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


def fill(connection: Connection, user_id: UUID) -> None:
    """Rows of the user's in several tables, with everything in them that must not be exported."""
    service_id = create_service(connection)
    columns = {"user_id": user_id, "created_at": NOW}
    for model, values in (
        (Permission, {"service_id": service_id, "permission": "manage_service"}),
        (LoginEvent, {"data": {"from": "somewhere"}}),
        (WebauthnCredential, {"name": "My key", "public_key": "secret-key"}),
    ):
        connection.execute(insert(model).values(id=uuid4(), **columns, **values))
    connection.execute(insert(VerifyCode).values(id=uuid4(), user_id=user_id, code_hash="secret-code", expires_at=NOW))
    session = {"token_hash": f"secret-token{user_id}".encode(), "expires_at": NOW, "data": {"t": "secret-data"}}
    connection.execute(insert(UserSession).values(id=uuid4(), **columns, **session))
    create_notification(connection, service_id, created_by_id=user_id)


# What -----------------------------------------------------------------------------------------------------------------

REFERRING = text(
    """
    SELECT conrelid::regclass::text AS table_name, attname AS column_name
    FROM pg_constraint
    JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
    WHERE contype = 'f' AND confrelid = 'users'::regclass
    """
)
COLUMNS = text(
    "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = :name"
)


def test_every_table_that_refers_to_users_is_exported_or_said_not_to_be(connection):
    referring = {(row.table_name, row.column_name) for row in connection.execute(REFERRING)}
    exported = {(one.table, one.column) for one in EXPORTED}
    assert exported & NOT_THE_USERS.keys() == set()
    assert referring <= exported | NOT_THE_USERS.keys()
    assert exported - referring == {
        ("users", "id"),
        ("invited_users", "email_address"),
        ("invited_organisation_users", "email_address"),
        ("notifications", "created_by_id"),
        ("notification_history", "created_by_id"),
    }


@pytest.mark.parametrize("exported", EXPORTED, ids=lambda one: one.name)
def test_every_column_is_exported_or_left_out_for_a_reason(connection, exported):
    columns = set(connection.execute(COLUMNS, {"name": exported.table}).scalars())
    decided = set(exported.columns) | set(exported.left_out)
    assert set(exported.columns) & set(exported.left_out) == set()
    assert decided == columns or ("*" in exported.left_out and set(exported.columns) <= columns)


def test_an_export_holds_the_users_rows_nobody_elses_and_no_secret(app, connection, s3, outbox):
    ada = create_user(connection, name='Ada "λ"\n', password_hash="secret-password", flags={"beta": True})
    eve = create_user(connection, password_hash="secret-password")
    for user_id in (ada, eve):
        fill(connection, user_id)
    entries = [{"user_id": str(user_id), "sent": 7} for user_id in (eve, ada)]
    for inviter, invited in ((eve, ada), (ada, eve)):
        to = {"email_address": address(invited).upper(), "created_at": NOW}
        service, organisation = create_service(connection), uuid4()
        connection.execute(insert(Organisation).values(id=organisation, name=str(organisation), created_at=NOW))
        for model, sent in (
            (InvitedUser, {"user_id": inviter, "service_id": service}),
            (InvitedOrganisationUser, {"invited_by_id": inviter, "organisation_id": organisation}),
        ):
            connection.execute(insert(model).values(id=uuid4(), **to, **sent))
    connection.execute(insert(LeaderBoard).values(id=uuid4(), month="2026-05", entries=entries))
    export_id = export.request(ada, NOW).id
    export.run(export_id, outbox)
    found = archive(s3, export_id)
    assert set(found) == {f"{one.name}.json" for one in EXPORTED} | {"leader_boards.json", "manifest.json"}
    manifest = found.pop("manifest.json")
    (user,) = found["users.json"]
    assert (user["name"], user["email_address"], user["flags"]) == ('Ada "λ"\n', address(ada), {"beta": True})
    assert found["leader_boards.json"] == [{"month": "2026-05", "entry": entries[1]}]
    assert [key["name"] for key in found["webauthn_credential.json"]] == ["My key"]
    counts = {name: len(rows) for name, rows in found.items() if rows}
    once = ("users", "user_sessions", "login_events", "verify_codes", "webauthn_credential", "permissions")
    invitations = ("invited_users", "invited_organisation_users")
    invitations += tuple(f"{name}_received" for name in invitations)
    assert counts == {f"{name}.json": 1 for name in (*once, *invitations, "notifications", "leader_boards")}
    assert found["invited_users_received.json"][0]["email_address"] == address(ada).upper()
    assert found["invited_users.json"][0].keys() == {"id", "service_id", "user_id", "created_at"}
    assert found["notifications.json"][0].keys() == {"id", "created_by_id"}
    assert manifest["rows"] == {name.removesuffix(".json"): len(rows) for name, rows in found.items()}
    everything = json.dumps(found)
    assert str(eve) not in everything
    assert [secret for secret in (*SECRETS, b"secret-token".hex()) if secret in everything] == []


def whole(s3: Any, export_id: UUID) -> zipfile.ZipFile:
    body = s3.get_object(Bucket=BUCKET, Key=f"exports/{export_id}.zip")["Body"].read()
    return zipfile.ZipFile(io.BytesIO(body))


def put(s3: Any, settings: Any, user_id: UUID, **files: bytes) -> None:
    for name, body in files.items():
        s3.put_object(Bucket=settings.s3_bucket_user_files, Key=f"users/{user_id}/{name}", Body=body)


def of_files(opened: zipfile.ZipFile) -> dict[str, bytes]:
    return {name: opened.read(name) for name in opened.namelist() if name.startswith("files/")}


def test_an_export_holds_the_users_files_and_nobody_elses(app, connection, s3, settings, outbox):
    ada, eve = create_user(connection), create_user(connection)
    put(s3, settings, ada, **{"a.csv": b"private", "deep/b.bin": bytes(range(256)) * 4096, "empty": b""})
    put(s3, settings, eve, **{"theirs": b"private too"})
    export_id = export.request(ada, NOW).id
    export.run(export_id, outbox)
    with whole(s3, export_id) as opened:
        assert opened.testzip() is None
        assert of_files(opened) == {
            "files/a.csv": b"private",
            "files/deep/b.bin": bytes(range(256)) * 4096,
            "files/empty": b"",
        }
        assert json.loads(opened.read("manifest.json"))["files"]["left_out"] == {}
    done = row(connection, export_id)
    assert (done.files, done.files_left_out) == (3, 0)
    assert "files" not in outbox.messages[0][1].text


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..\\..\\c", "\u202efdp.exe", ".."])
def test_no_file_is_unpacked_elsewhere_than_below_its_folder(app, connection, s3, settings, outbox, name):
    user_id = create_user(connection)
    put(s3, settings, user_id, **{name: b"odd", "odd": b"plain"})
    export_id = export.request(user_id, NOW).id
    export.run(export_id, outbox)
    with whole(s3, export_id) as opened:
        entry = next(entry for entry, body in of_files(opened).items() if body == b"odd")
        manifest = json.loads(opened.read("manifest.json"))["files"]
    assert not set(entry.split("/")) & {"", ".."}
    assert entry.isprintable()
    assert "\\" not in entry
    assert manifest["renamed"] == {entry: name}


class TestOfFewFiles:
    @pytest.fixture
    def settings_override(self) -> dict[str, str]:
        return {"S3_BUCKET_EXPORTS": BUCKET, "EXPORT_FILES_MEGABYTES": "1"}

    def test_what_does_not_fit_is_left_out_and_the_manifest_and_the_email_say_so(
        self, connection, s3, settings, outbox, monkeypatch
    ):
        user_id = create_user(connection)
        put(s3, settings, user_id, **{"1": b"x" * 600_000, "2": b"x" * 600_000, "3": b"x" * 399_999, "4": b"x"})
        put(s3, settings, user_id, **{"5": b"gone soon", "6": b"", "7": b""})
        monkeypatch.setattr(export_files, "MOST_FILES", 3)
        read = export_files.pieces
        monkeypatch.setattr(export_files, "pieces", lambda *given: read(*given[:-1], re.sub("/4$", "/none", given[-1])))
        export_id = export.request(user_id, NOW).id
        export.run(export_id, outbox)
        with whole(s3, export_id) as opened:
            manifest = json.loads(opened.read("manifest.json"))["files"]
            assert list(of_files(opened)) == ["files/1", "files/3", "files/6"]
        assert (manifest["bytes"], manifest["left_out"]) == (
            999_999,
            {"no room": 2, "NoSuchKey": 1, "too many files": 1},
        )
        assert [file["name"] for file in manifest["left_out_by_name"]] == ["2", "4", "5", "7"]
        done = row(connection, export_id)
        assert (done.files, done.files_left_out) == (3, 4)
        assert "The number of missing files is 4" in outbox.messages[0][1].text

    def test_files_that_there_is_no_time_for_are_left_out_and_the_export_is_made(
        self, connection, s3, settings, outbox, monkeypatch
    ):
        user_id = create_user(connection)
        put(s3, settings, user_id, **{"1": b"a" * 300_000, "2": b"x"})
        monkeypatch.setattr(export_files, "Requests", lambda *_: Few(3))  # listing, opening, one piece
        export_id = export.request(user_id, NOW).id
        export.run(export_id, outbox)
        with whole(s3, export_id) as opened:
            manifest = json.loads(opened.read("manifest.json"))["files"]
            assert opened.testzip() is None
        assert (manifest["left_out"], manifest["all_were_looked_at"]) == ({export_files.CUT: 1}, False)
        assert row(connection, export_id).state == "ready"
        assert "The number of missing files is" in outbox.messages[0][1].text


class Few(Requests):
    """Time for so many requests, or pieces."""

    def __init__(self, number: int) -> None:
        super().__init__(Deadline(600), 0)
        self.left = number

    def admit(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Stopped(OUT_OF_TIME)


# The link -------------------------------------------------------------------------------------------------------------


def follow(app: Flask, link: str) -> tuple[int, bytes]:
    """The answer of the API to the link, and then that of S3."""
    parts = urlsplit(link)
    assert f"{parts.scheme}://{parts.netloc}" == tools().settings.site_url
    answer = app.test_client().get(parts.path)
    assert answer.headers["Cache-Control"] == "no-store"
    return fetch(answer.headers["Location"]) if answer.status_code == 302 else (answer.status_code, answer.data)


def test_the_link_leads_to_the_export_for_as_long_as_it_is_kept(app, connection, outbox, time):
    user_id = create_user(connection)
    export_id = export.request(user_id, NOW).id
    export.run(export_id, outbox)
    ((to, message),) = outbox.messages
    assert to == address(user_id)
    assert "13:00 on Monday 22 June 2026" in message.text
    status, body = follow(app, outbox.link)
    assert status == 200
    with zipfile.ZipFile(io.BytesIO(body)) as opened:
        assert opened.testzip() is None
    done = row(connection, export_id)
    assert (done.state, done.email_address, done.emailed_at, done.lease_token) == ("ready", None, NOW, None)
    assert done.expires_at == NOW + 7 * DAY
    assert outbox.link.rpartition("/")[2].encode() not in bytes(done.link_hash)
    time["now"] = NOW + 7 * DAY
    assert follow(app, outbox.link)[0] == 404


def test_each_request_gets_a_signature_of_its_own_that_is_good_for_a_minute(app, connection, outbox, time):
    """The email's link lives for days, which no signature of a role's does."""
    export_id = export.request(create_user(connection), NOW).id
    export.run(export_id, outbox)
    token = outbox.link.rpartition("/")[2]
    for now, seconds in ((NOW, "60"), (NOW + 7 * DAY - SECOND, "1")):
        query = parse_qs(urlsplit(export.link_for_token(token, now) or "").query)
        assert (query["X-Amz-Algorithm"], query["X-Amz-Expires"]) == (["AWS4-HMAC-SHA256"], [seconds])


def test_an_email_that_is_sent_again_has_a_link_that_works(app, connection, outbox, time):
    export_id = export.request(create_user(connection), NOW).id
    outbox.error = MailUnavailable("TooManyRequestsException")
    export.run(export_id, outbox)
    assert export.take_due() == []
    outbox.error = None
    time["now"] = NOW + DAY
    assert export.take_due() == [export_id]
    export.run(export_id, outbox)
    assert follow(app, outbox.link)[0] == 200
    time["now"] += DAY
    assert export.take_due() == []


def test_an_address_that_takes_nothing_is_forgotten_and_the_record_says_why(app, connection, outbox, time):
    export_id = export.request(create_user(connection), NOW).id
    outbox.error = MailRefused("MessageRejected")
    export.run(export_id, outbox)
    done = row(connection, export_id)
    assert (done.state, done.email_address, done.failure, done.emailed_at) == ("ready", None, "MessageRejected", None)


def test_an_export_survives_its_account(app, connection, s3, outbox):
    user_id = create_user(connection)
    export_id = export.request(user_id, NOW).id
    export.run(export_id, outbox)
    connection.execute(text("DELETE FROM users WHERE id = :id"), {"id": user_id})
    assert export.remove_expired() is False
    assert follow(app, outbox.link)[0] == 200


def test_an_export_that_was_asked_for_before_a_deletion_is_whole_before_it_and_survives_it(
    app, connection, s3, outbox, time
):
    time["now"] = datetime.now(UTC) + timedelta(seconds=5)  # the database itself says since when a mark is due
    user_id = create_user(connection)
    fill(connection, user_id)
    connection.execute(text("DELETE FROM permissions"))
    export_id = export.request(user_id, time["now"]).id
    deletion.delete_account(user_id, by="user", by_id=user_id, now=time["now"])
    assert deletion.run(user_id, str(uuid4())) is False, "it waits"
    export.run(export_id, outbox)
    connection.execute(text("UPDATE user_deletions SET due_at = now()"))
    while deletion.run(user_id, str(uuid4())):
        """There is more of it."""
    assert connection.execute(text("SELECT count(*) FROM users WHERE id = :id"), {"id": user_id}).scalar() == 0
    assert len(archive(s3, export_id)["login_events.json"]) == 1
    assert follow(app, outbox.link)[0] == 200


@pytest.mark.parametrize(("after", "is_gone"), [(7 * DAY - SECOND, False), (7 * DAY, True), (8 * DAY, True)])
def test_an_export_goes_with_all_its_versions_when_its_time_is_up(app, connection, s3, outbox, time, after, is_gone):
    export_id = export.request(create_user(connection), NOW).id
    export.run(export_id, outbox)
    s3.put_object(Bucket=BUCKET, Key=f"exports/{export_id}.zip", Body=b"an older one, as after a kill")
    left = s3.create_multipart_upload(Bucket=BUCKET, Key=f"exports/{export_id}.zip")
    assert left["UploadId"]
    time["now"] = NOW + after
    export.remove_expired()
    assert (versions(s3) == [], uploads(s3) == []) == (is_gone, is_gone)
    assert row(connection, export_id).state == ("expired" if is_gone else "ready")
    assert follow(app, outbox.link)[0] == (404 if is_gone else 200)
    assert row(connection, export_id).email_address is None


def test_an_object_that_can_not_be_removed_is_tried_again_later(app, connection, s3, outbox, time, monkeypatch):
    export_id = export.request(create_user(connection), NOW).id
    export.run(export_id, outbox)
    time["now"] = NOW + 7 * DAY
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(tools().s3, "delete_objects", refuse)
        export.remove_expired()
        assert row(connection, export_id).state == "ready"
    export.remove_expired()
    assert row(connection, export_id).state == "ready", "it is not due yet"
    time["now"] += timedelta(hours=1)
    export.remove_expired()
    assert (row(connection, export_id).state, versions(s3)) == ("expired", [])


def test_one_that_can_not_be_removed_waits_by_its_own_failures_not_by_its_place_in_the_page(
    app, connection, s3, outbox, time, monkeypatch
):
    several = [export.request(create_user(connection), NOW + number * SECOND).id for number in range(8)]
    for export_id in several:
        export.run(export_id, outbox)
    time["now"] = NOW + 8 * DAY
    longest = []
    with monkeypatch.context() as broken:
        broken.setattr(tools().s3, "delete_objects", refuse)
        for _ in range(3):
            export.remove_expired()
            longest.append(max(row(connection, export_id).due_at for export_id in several) - time["now"])
            time["now"] += timedelta(hours=1)
    base = tools().settings.account_retry_seconds
    assert longest[0] <= timedelta(seconds=base)
    assert longest[0] < longest[1] < longest[2] <= timedelta(seconds=4 * base)


def refuse(**_: Any) -> None:
    raise ClientError({"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "DeleteObjects")


# Once, and after a kill -----------------------------------------------------------------------------------------------


def test_a_user_has_one_export_at_a_time(app, connection, outbox, time):
    """Not refused: whoever asks again, or twice at once, gets the one that is under way, or was made just now."""
    user_id = create_user(connection)
    with background(app) as start:
        asked = [start(export.request, user_id, NOW) for _ in range(4)]
        (only,) = {one.result() for one in asked}
    assert only.state == "requested"
    export.run(only.id, outbox)
    assert export.request(user_id, NOW + HOUR - SECOND) == Asked(only.id, "ready")
    assert export.request(user_id, NOW + HOUR).id != only.id, "what was made before is in nobody's way"


@pytest.mark.parametrize(("before", "is_pending"), [(SECOND, True), (timedelta(), False)])
def test_an_export_that_is_not_built_by_its_deadline_is_given_up(app, connection, outbox, time, before, is_pending):
    user_id = create_user(connection)
    export_id = export.request(user_id, NOW).id
    time["now"] = NOW + timedelta(hours=24) - before
    with db.transaction() as own:
        assert export.pending(own, user_id, time["now"]) == is_pending
    assert export.take_due() == [export_id], "to be built, or to be told that it won't be"
    export.run(export_id, outbox)
    done = row(connection, export_id)
    assert (done.state, done.failure) == (("ready", None) if is_pending else ("failed", "Deadline"))
    assert done.email_address is None
    assert subjects(outbox) == [READY if is_pending else FAILED]


def test_those_that_miss_their_deadline_are_given_up_in_bounded_batches(app, connection, time, monkeypatch):
    for _ in range(3):
        export.request(create_user(connection), NOW)
    monkeypatch.setattr(export, "EXPORTS_PER_STEP", 2)
    time["now"] = NOW + timedelta(hours=24)
    failed = text("SELECT count(*) FROM user_exports WHERE state = 'failed'")
    counts = []
    for _ in range(2):
        export.take_due()
        counts.append(connection.execute(failed).scalar())
    assert counts == [2, 3]


def test_a_user_whose_export_fails_for_good_is_told_once_though_email_fails_at_first(
    app, connection, outbox, time, monkeypatch
):
    user_id = create_user(connection)
    export_id = export.request(user_id, NOW).id
    monkeypatch.setattr(export_archive, "write", takes_too_long)
    for _ in range(export.MOST_ATTEMPTS):
        export.run(export_id, outbox)
        time["now"] = row(connection, export_id).due_at
    assert (row(connection, export_id).state, outbox.messages) == ("failed", [])
    outbox.error = MailUnavailable("TooManyRequestsException")
    assert export.take_due() == [export_id]
    export.run(export_id, outbox)
    outbox.error = None
    time["now"] += DAY
    export.remove_expired()
    assert export.take_due() == [export_id]
    export.run(export_id, outbox)
    time["now"] += DAY
    export.remove_expired()
    assert export.take_due() == []
    export.run(export_id, outbox)
    done = row(connection, export_id)
    assert [(to, message.subject) for to, message in outbox.messages] == [(address(user_id), FAILED)]
    assert (done.state, done.failure, done.email_address, done.expires_at) == ("failed", OUT_OF_TIME, None, None)


def takes_too_long(*_: Any) -> int:
    raise Stopped(OUT_OF_TIME)


def test_the_word_that_an_export_failed_is_given_up_after_so_many_attempts(app, connection, outbox, time):
    export_id = export.request(create_user(connection), NOW).id
    time["now"] = NOW + timedelta(hours=24)
    outbox.error = MailUnavailable("NobodyHasHeardOfIt")
    for _ in range(export.MOST_ATTEMPTS):
        assert export.take_due() == [export_id]
        export.run(export_id, outbox)
        time["now"] += DAY
    assert export.take_due() == []
    done = row(connection, export_id)
    assert (done.state, done.failure, done.email_address, done.emailed_at) == ("failed", "Deadline", None, None)


def test_without_a_bucket_an_export_is_left_for_a_worker_that_has_one(app, connection, outbox):
    export_id = export.request(create_user(connection), NOW).id
    before = row(connection, export_id)
    made = app.extensions["accounts.tools"]
    app.extensions["accounts.tools"] = type(made)(made.settings.model_copy(update={"s3_bucket_exports": None}))
    export.run(export_id, outbox)
    app.extensions["accounts.tools"] = made
    assert row(connection, export_id) == before
    export.run(export_id, outbox)
    assert row(connection, export_id).state == "ready"


def test_who_can_not_ask_is_told_why_and_nothing_is_kept(app, connection):
    marked = create_user(connection, flags={"in_deletion": True})
    for user_id, error in ((uuid4(), UnknownUser), (GHOST_USER_ID, GhostUser), (marked, WrongState)):
        with pytest.raises(error):
            export.request(user_id, NOW)
    made = app.extensions["accounts.tools"]
    app.extensions["accounts.tools"] = type(made)(made.settings.model_copy(update={"s3_bucket_exports": None}))
    with pytest.raises(WrongState):
        export.request(create_user(connection), NOW)
    app.extensions["accounts.tools"] = made
    assert connection.execute(text("SELECT count(*) FROM user_exports")).scalar() == 0


def test_a_worker_that_is_killed_is_followed_by_another_once_its_lease_is_over(
    app, connection, s3, outbox, time, monkeypatch
):
    export_id = export.request(create_user(connection), NOW).id
    with monkeypatch.context() as killed:
        killed.setattr(export_archive, "write", die)
        with pytest.raises(Killed):
            export.run(export_id, outbox)
    s3.create_multipart_upload(Bucket=BUCKET, Key=f"exports/{export_id}.zip")  # which a real kill leaves
    assert export.take_due() == []
    export.run(export_id, outbox)
    assert (versions(s3), outbox.messages) == ([], [])
    time["now"] = NOW + timedelta(seconds=tools().settings.task_time_limit_seconds)
    assert export.take_due() == [export_id]
    export.run(export_id, outbox)
    assert (len(versions(s3)), uploads(s3), len(outbox.messages)) == (1, [], 1)
    assert row(connection, export_id).state == "ready"


def die(*_: Any) -> int:
    raise Killed


def test_a_worker_that_outlived_its_lease_makes_no_object(app, connection, s3, outbox, monkeypatch):
    export_id = export.request(create_user(connection), NOW).id
    write = export_archive.write

    def slowly(*given: Any) -> Any:
        rows = write(*given)
        connection.execute(text("UPDATE user_exports SET lease_token = gen_random_uuid()"))
        return rows

    monkeypatch.setattr(export_archive, "write", slowly)
    export.run(export_id, outbox)
    assert (versions(s3), uploads(s3), outbox.messages) == ([], [], [])
    assert row(connection, export_id).state == "running"


def test_an_export_that_fails_is_tried_again_ever_later_and_then_given_up(app, connection, outbox, time):
    made = app.extensions["accounts.tools"]
    export_id = export.request(create_user(connection), NOW).id
    elsewhere = made.settings.model_copy(update={"s3_bucket_exports": "there-is-no-such-bucket"})
    app.extensions["accounts.tools"] = type(made)(elsewhere)
    waits = []
    for attempt in range(export.MOST_ATTEMPTS):
        export.run(export_id, outbox)
        tried = row(connection, export_id)
        assert (tried.attempts, tried.failure) == ((attempt + 1) % export.MOST_ATTEMPTS, "NoSuchBucket")
        waits.append(tried.due_at - time["now"])
        if tried.state != "failed":
            assert export.take_due() == []
        time["now"] = tried.due_at
        assert export.take_due() == [export_id]
    assert waits[1] > waits[0]
    assert row(connection, export_id).state == "failed"
    export.run(export_id, outbox)
    assert (subjects(outbox), row(connection, export_id).email_address) == ([FAILED], None)
    app.extensions["accounts.tools"] = made
    time["now"] += DAY
    export.remove_expired()
    done = row(connection, export_id)
    assert (done.state, done.failure, done.expires_at) == ("failed", "NoSuchBucket", None)


def test_a_user_who_is_gone_gets_no_empty_export(app, connection, s3, outbox):
    user_id = create_user(connection)
    export_id = export.request(user_id, NOW).id
    connection.execute(text("DELETE FROM users WHERE id = :id"), {"id": user_id})
    export.run(export_id, outbox)
    done = row(connection, export_id)
    assert (done.state, done.failure, versions(s3)) == ("failed", "NoSuchUser", [])


def test_the_relay_sends_a_message_for_each_that_is_due_and_not_again_at_once(app, connection, monkeypatch):
    wanted = {str(export.request(create_user(connection), NOW).id) for _ in range(3)}
    sent: list[str] = []
    monkeypatch.setattr(export_tasks.export_user_data, "apply_async", lambda args: sent.extend(args))
    export_tasks.relay_user_exports()
    export_tasks.relay_user_exports()
    assert (len(sent), set(sent)) == (3, wanted)


def test_what_is_no_id_is_refused(app):
    with pytest.raises(BadArgument):
        export_tasks.export_user_data("1")


# Large ----------------------------------------------------------------------------------------------------------------

MANY = text(
    """
    INSERT INTO login_events (id, user_id, created_at, data)
    SELECT gen_random_uuid(), :user_id, now(), jsonb_build_object('from', md5(n::text) || md5((n + 1)::text))
    FROM generate_series(1, CAST(:rows AS integer)) AS n
    """
)
BUILD = """
import sys
from uuid import UUID
from app import create_app
from app.accounts import export

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))

app = create_app()
with app.app_context():
    small, large = map(UUID, sys.argv[1:])
    export.run(small, lambda to, message: None)
    before = peak()
    export.run(large, lambda to, message: None)
    print(peak() - before)
"""
ROWS = 150_000
MOST_GROWTH_KB = 40_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")
def test_a_large_export_takes_no_more_memory_than_its_parts(app, connection, s3, environment, settings_override):
    now = datetime.now(UTC)
    users = [create_user(connection) for _ in range(2)]
    for user_id, rows in zip(users, (10, ROWS), strict=True):
        connection.execute(MANY, {"user_id": user_id, "rows": rows})
    small, large = (str(export.request(user_id, now).id) for user_id in users)
    ended = subprocess.run(
        [sys.executable, "-c", BUILD, small, large],
        env={**environment, **settings_override},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    grown = int(ended.stdout.splitlines()[-1])
    found = s3.head_object(Bucket=BUCKET, Key=f"exports/{large}.zip")
    print(f"{ROWS:,} rows, {found['ContentLength']:,} bytes in the archive; memory grew by {grown:,} kB")
    assert found["ETag"].strip('"').endswith("-2")
    assert grown < MOST_GROWTH_KB


# Its record ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "age", "stays"),
    [
        ({"state": "expired"}, 366 * DAY, False),
        ({"state": "expired"}, 364 * DAY, True),
        ({"state": "failed"}, 366 * DAY, False),
        ({"state": "failed", "expires_at": NOW}, 366 * DAY, True),
        ({"state": "failed", "email_address": "to@be.told"}, 366 * DAY, True),
        ({"state": "ready"}, 366 * DAY, True),
        ({"state": "requested"}, 366 * DAY, True),
    ],
)
def test_the_record_of_an_export_ends_when_nothing_of_it_is_left(app, connection, columns, age, stays):
    asked_at = NOW - age
    times = {"requested_at": asked_at, "deadline_at": asked_at, "due_at": asked_at}
    connection.execute(insert(UserExport).values(id=uuid4(), user_id=uuid4(), **times, **columns))
    assert export.purge_records() is False
    assert connection.execute(text("SELECT count(*) FROM user_exports")).scalar() == int(stays)


def test_a_table_that_can_not_be_read_puts_the_export_off_and_its_record_names_the_error(app, connection, outbox):
    export_id = export.request(create_user(connection), NOW).id
    connection.exec_driver_sql("ALTER TABLE login_events RENAME TO elsewhere")
    try:
        export.run(export_id, outbox)
    finally:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO login_events")
    done = row(connection, export_id)
    assert (done.state, done.failure, done.lease_token) == ("running", "UndefinedTable 42P01", None)
