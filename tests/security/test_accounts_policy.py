"""The policy of deploy/aws for accounts: files and exports are dealt with under it, and every action of it is needed.

Each action is taken out by itself, and something must go wrong. The users' files are in a bucket without versions and
the exports in one with them, and the other way round, so that both kinds are met. Seen to fail: an action too many
(`s3:ListMultipartUploadParts`: nothing went wrong without it), one too few, and `/*` left out.
"""

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener
from uuid import UUID, uuid4

import boto3
import pytest
from botocore.exceptions import ClientError
from flask import Flask

from app import clock
from app.accounts import deletion, export, mail
from app.accounts.mail import Message
from app.accounts.tools import tools
from dev.s3 import REGION, EmbeddedS3
from tests.fakes.recording_ses import recording_ses
from tests.least import ACCOUNTS_POLICY_FILE, policy, put_under_policy
from tests.servers import S3_SERVER
from tests.users import create_user

BUCKETS = {"S3_BUCKET_USER_FILES": "files", "S3_BUCKET_EXPORTS": "copies"}
STATEMENTS = policy(BUCKETS, ACCOUNTS_POLICY_FILE)["Statement"]
ACTIONS = [action for statement in STATEMENTS for action in statement["Action"] if action.startswith("s3:")]
VERSIONS = [{"files"}, {"copies"}]
"""The buckets with versions."""


@dataclass
class Outcome:
    """What is left when all is over, what the link answered, and what went wrong on the way."""

    left: dict[str, int]
    uploads: int
    link: int
    export: str
    account: str
    wrong: list[str] = field(default_factory=list)


AS_IT_SHOULD_BE = Outcome({"files": 0, "copies": 0}, 0, 200, "expired", "complete")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    started = EmbeddedS3(tmp_path_factory.mktemp("stand-in") / "s3", [S3_SERVER]).start()
    yield started
    started.stop()


@pytest.fixture
def settings_override(server: EmbeddedS3) -> dict[str, str]:
    return {"AWS_ENDPOINT_URL_S3": server.url, "ACCOUNT_REQUEST_SECONDS": "60", **BUCKETS}


@pytest.fixture
def administrator(server: EmbeddedS3) -> Iterator[Any]:
    with closing(server.client()) as client:
        yield client


@pytest.fixture
def now(app: Flask, monkeypatch: pytest.MonkeyPatch) -> dict[str, datetime]:
    made = {"now": datetime.now(UTC) + timedelta(seconds=5)}  # the database itself says since when a mark is due
    monkeypatch.setattr(clock, "now", lambda: made["now"])
    return made


@dataclass
class Walk:
    """All that is done with files of accounts: an export, its link and its end, and a user's files."""

    app: Flask
    connection: Any
    server: EmbeddedS3
    administrator: Any
    now: dict[str, datetime]
    monkeypatch: pytest.MonkeyPatch

    def under(self, document: dict[str, Any], versions: set[str]) -> Outcome:
        self._make_buckets(versions)
        user_id = create_user(self.connection)
        for bucket in ("files", "files"):  # twice: a version of the same key, where there are any
            self.administrator.put_object(Bucket=bucket, Key=f"users/{user_id}/picture", Body=b"private")
        export_id = export.request(user_id, clock.now()).id
        self.administrator.create_multipart_upload(Bucket="copies", Key=export.key_of(export_id))
        links: list[str] = []
        wrong: list[str] = []
        key = "WORKER" + secrets.token_hex(7).upper()
        put_under_policy(self.server.url, key, document)
        self.monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        self._attempt(wrong, lambda: export.run(export_id, lambda _to, message: links.append(link_in(message))))
        signed = export.link_for_token(links[0].rpartition("/")[2], clock.now()) if links else None
        answered = fetch(signed) if signed else 0
        deletion.delete_account(user_id, by="user", by_id=user_id, now=clock.now())
        for table, column in (("user_deletions", "due_at"), ("user_exports", "due_at"), ("user_exports", "expires_at")):
            self.connection.exec_driver_sql(f"UPDATE {table} SET {column} = now() - interval '1 s'")
        self._attempt(wrong, lambda: self._finish(user_id))
        self._attempt(wrong, export.remove_expired)
        return Outcome(self._left(), self._uploads(), answered, self._state(export_id), self._deletion(user_id), wrong)

    def _make_buckets(self, versions: set[str]) -> None:
        place = {"LocationConstraint": REGION}
        for bucket in BUCKETS.values():
            empty(self.administrator, bucket)
            self.administrator.create_bucket(Bucket=bucket, CreateBucketConfiguration=place)
        for bucket in versions:
            self.administrator.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    @staticmethod
    def _attempt(wrong: list[str], what: Any) -> None:
        try:
            what()
        except Exception as error:
            wrong.append(type(error).__name__)

    @staticmethod
    def _finish(user_id: UUID) -> None:
        while deletion.run(user_id, str(uuid4())) and deletion.find(user_id).state != "complete":
            """There is more of it."""

    def _left(self) -> dict[str, int]:
        return {bucket: len(entries(self.administrator, bucket)) for bucket in BUCKETS.values()}

    def _uploads(self) -> int:
        return len(self.administrator.list_multipart_uploads(Bucket="copies").get("Uploads", []))

    def _state(self, export_id: UUID) -> str:
        statement = "SELECT state FROM user_exports WHERE id = %(id)s"
        return str(self.connection.exec_driver_sql(statement, {"id": str(export_id)}).scalar())

    @staticmethod
    def _deletion(user_id: UUID) -> str:
        record = deletion.find(user_id)
        return "" if record is None else record.state


def link_in(message: Message) -> str:
    return (re.findall(r"^http\S+$", message.text, re.MULTILINE) or [""])[0]


def fetch(link: str) -> int:
    try:
        with build_opener(ProxyHandler({})).open(link, timeout=30) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code


def entries(client: Any, bucket: str) -> list[dict[str, str]]:
    answer = client.list_object_versions(Bucket=bucket)
    return [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]


def empty(client: Any, bucket: str) -> None:
    """The bucket away, with all that is in it."""
    if bucket not in {one["Name"] for one in client.list_buckets()["Buckets"]}:
        return
    for one in entries(client, bucket):
        client.delete_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])
    for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    client.delete_bucket(Bucket=bucket)


@pytest.fixture
def walk(app, connection, server, administrator, now, monkeypatch) -> Walk:
    return Walk(app, connection, server, administrator, now, monkeypatch)


@pytest.mark.parametrize("versions", VERSIONS, ids=["files", "copies"])
def test_files_and_exports_are_dealt_with_under_the_policy(walk, versions):
    assert walk.under(policy(BUCKETS, ACCOUNTS_POLICY_FILE), versions) == AS_IT_SHOULD_BE


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_is_needed(walk, action):
    document = policy(BUCKETS, ACCOUNTS_POLICY_FILE)
    for statement in document["Statement"]:
        statement["Action"] = [other for other in statement["Action"] if other != action]
    assert walk.under(document, {"copies"}) != AS_IT_SHOULD_BE


@pytest.mark.parametrize(
    ("number", "arn"), [(number, arn) for number, one in enumerate(STATEMENTS[:-1]) for arn in one["Resource"]]
)
def test_each_place_is_needed(walk, number, arn):
    document = policy(BUCKETS, ACCOUNTS_POLICY_FILE)
    document["Statement"][number]["Resource"].remove(arn)
    assert walk.under(document, {"copies"}) != AS_IT_SHOULD_BE


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("put_object", {"Bucket": "files", "Key": "k", "Body": b""}),
        ("get_bucket_policy", {"Bucket": "files"}),
        ("put_object_acl", {"Bucket": "copies", "Key": "k", "ACL": "public-read"}),
        ("put_bucket_versioning", {"Bucket": "copies", "VersioningConfiguration": {"Status": "Suspended"}}),
        ("put_bucket_policy", {"Bucket": "copies", "Policy": "{}"}),
        ("delete_bucket", {"Bucket": "copies"}),
        ("list_multipart_uploads", {"Bucket": "files"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_else_is_possible_under_the_policy(walk, server, operation, arguments):
    walk._make_buckets(set())
    put_under_policy(server.url, "WORKERFORTHIS", policy(BUCKETS, ACCOUNTS_POLICY_FILE))
    session = boto3.Session("WORKERFORTHIS", "secret", region_name=REGION)
    with closing(session.client("s3", endpoint_url=server.url)) as client, pytest.raises(ClientError) as refused:
        getattr(client, operation)(**arguments)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_emails_need_the_one_action_that_is_granted_for_them(app):
    """The server that stands in for SES asks nobody for permissions, so that the operations are looked at."""
    asked: list[str] = []
    with recording_ses() as ses:
        made = app.extensions["accounts.tools"]
        changed = made.settings.model_copy(update={"aws_endpoint_url_sesv2": ses.url})
        app.extensions["accounts.tools"] = type(made)(changed)
        tools().ses.meta.events.register("before-call.*.*", lambda model, **_: asked.append(model.name))
        mail.send("someone@example.test", Message("Subject", "Text", "<p>Text</p>"))
    assert asked == ["SendEmail"]
    granted = [action for one in STATEMENTS for action in one["Action"] if action.startswith("ses:")]
    assert granted == ["ses:SendEmail"]


def test_the_file_holds_no_name_of_a_bucket_and_no_wildcard_but_for_keys():
    for statement in json.loads(ACCOUNTS_POLICY_FILE.read_text())["Statement"]:
        assert statement["Effect"] == "Allow"
        assert not [action for action in statement["Action"] if "*" in action]
        for arn in statement["Resource"]:
            is_of_ses = arn == "arn:aws:ses:*:*:identity/${SES_IDENTITY}"
            assert is_of_ses or arn.removeprefix("arn:aws:s3:::").removesuffix("/*").strip("${}") in BUCKETS
