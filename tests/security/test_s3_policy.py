"""The policy of deploy/aws: files are found and deleted under it, and every action of it is needed.

The whole suite runs with an access key that is under that policy (tests/least.py). Here each action is taken out by
itself, in all of the kinds of buckets, and something must go wrong. Seen to fail: an action too many
(`s3:GetObject`: nothing went wrong without it, and a letter could be read), one too few, and `/*` left out.
"""

import json
import secrets
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import boto3
import pytest
from botocore.exceptions import ClientError

from app.storage.files import Deadline, LetterFiles
from app.storage.naming import Buckets, Letter, Naming
from dev.s3 import REGION, EmbeddedS3
from tests.least import POLICY_FILE, policy, put_under_policy
from tests.servers import S3_SERVER

BUCKETS = {
    "S3_BUCKET_LETTERS_PDF": "plain",
    "S3_BUCKET_TEST_LETTERS": "versioned",
    "S3_BUCKET_INVALID_PDF": "suspended",
    "S3_BUCKET_LETTERS_SCAN": "locked",
}
ELSEWHERE = "somebody-elses"
NOON = datetime(2026, 1, 20, 12, 0, tzinfo=UTC)
ACTIONS = [action for statement in policy(BUCKETS)["Statement"] for action in statement["Action"]]


@dataclass
class Deleted:
    """What came of it: letters by name that are gone, the reasons of others, and buckets that refused."""

    gone: set[str]
    failed: dict[str, str]
    broken: set[str]


AS_IT_SHOULD_BE = Deleted(
    {"plain", "versioned", "suspended"}, {"locked": "ObjectLocked", "held": "ObjectLocked"}, set()
)


@dataclass
class Store:
    """Four buckets, one of each kind, each with a letter's file."""

    server: EmbeddedS3
    administrator: Any
    letters: dict[str, Letter]

    def client(self, document: dict[str, Any]) -> Any:
        """A client that may do what the policy says, of a server that does not say why a version can't go."""
        key = "WORKER" + secrets.token_hex(7).upper()
        put_under_policy(self.server.url, key, document, terse=True)
        return boto3.Session(key, "secret", region_name=REGION).client("s3", endpoint_url=self.server.url)

    def delete_all(self, document: dict[str, Any]) -> Deleted:
        """Find and delete the files of all letters, as the product does it."""
        names = {letter.id: name for name, letter in self.letters.items()}
        with closing(self.client(document)) as client:
            files = LetterFiles(client, naming(), seconds_per_request=1)
            search = files.find(list(self.letters.values()), Deadline(600))
            assert search.stopped is None
            deletion = files.delete(search.files, Deadline(600))
        assert deletion.stopped is None
        return Deleted(
            {names[id_] for id_ in deletion.gone},
            {names[id_]: code for id_, code in deletion.failed.items()},
            {*search.broken, *deletion.broken},
        )

    def left(self) -> dict[str, int]:
        """Versions and markers that are left in each bucket."""
        left = {}
        for bucket in BUCKETS.values():
            answer = self.administrator.list_object_versions(Bucket=bucket)
            left[bucket] = len([*answer.get("Versions", []), *answer.get("DeleteMarkers", [])])
        return left


def naming() -> Naming:
    return Naming(Buckets("plain", "versioned", "suspended", "locked"), ZoneInfo("Europe/London"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    started = EmbeddedS3(tmp_path_factory.mktemp("stand-in") / "s3", [S3_SERVER]).start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def administrator(server: EmbeddedS3) -> Iterator[Any]:
    with closing(server.client()) as client:
        place = {"LocationConstraint": REGION}
        for bucket in ("plain", "versioned", "suspended", ELSEWHERE):
            client.create_bucket(Bucket=bucket, CreateBucketConfiguration=place)
        client.create_bucket(Bucket="locked", CreateBucketConfiguration=place, ObjectLockEnabledForBucket=True)
        for bucket in ("versioned", "suspended"):
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        yield client


@pytest.fixture
def store(server: EmbeddedS3, administrator: Any) -> Store:
    """A letter in each bucket: one file, two versions, a version under a marker, a version under lock."""
    of_bucket = {
        "plain": ("delivered", "normal"),
        "versioned": ("delivered", "test"),
        "suspended": ("validation-failed", "normal"),
        "locked": ("virus-scan-failed", "normal"),
        "held": ("virus-scan-failed", "normal"),
    }
    letters = {
        name: Letter(uuid4(), uuid4().hex[:16].upper(), NOON, status, key_type, "second")
        for name, (status, key_type) in of_bucket.items()
    }
    made = Store(server, administrator, letters)
    for bucket in BUCKETS.values():
        _empty(administrator, bucket)
    keys = {name: naming().key(letter) for name, letter in letters.items()}
    administrator.put_bucket_versioning(Bucket="suspended", VersioningConfiguration={"Status": "Enabled"})
    for name, bucket in {**dict(zip(keys, keys, strict=True)), "held": "locked"}.items():
        for _ in range(1 if name == "plain" else 2):
            administrator.put_object(Bucket=bucket, Key=keys[name], Body=b"%PDF private")
    administrator.put_bucket_versioning(Bucket="suspended", VersioningConfiguration={"Status": "Suspended"})
    administrator.delete_object(Bucket="suspended", Key=keys["suspended"])
    administrator.put_object_retention(
        Bucket="locked",
        Key=keys["locked"],
        Retention={"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(days=1)},
    )
    administrator.put_object_legal_hold(Bucket="locked", Key=keys["held"], LegalHold={"Status": "ON"})
    return made


def _empty(administrator: Any, bucket: str) -> None:
    answer = administrator.list_object_versions(Bucket=bucket)
    for entry in [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]:
        named = {"Bucket": bucket, "Key": entry["Key"], "VersionId": entry["VersionId"]}
        if bucket == "locked" and "ETag" in entry:
            administrator.put_object_legal_hold(**named, LegalHold={"Status": "OFF"})
        administrator.delete_object(**named, BypassGovernanceRetention=True)


def test_files_go_in_every_kind_of_bucket_and_what_is_locked_stays_with_that_reason(store):
    assert store.delete_all(policy(BUCKETS)) == AS_IT_SHOULD_BE
    assert store.left() == {"plain": 0, "versioned": 0, "suspended": 0, "locked": 2}


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_is_needed(store, action):
    document = policy(BUCKETS)
    for statement in document["Statement"]:
        statement["Action"] = [other for other in statement["Action"] if other != action]
    assert store.delete_all(document) != AS_IT_SHOULD_BE


@pytest.mark.parametrize("bucket", BUCKETS.values())
def test_each_bucket_is_needed(store, bucket):
    document = policy(BUCKETS)
    for statement in document["Statement"]:
        statement["Resource"] = [arn for arn in statement["Resource"] if arn.rpartition(":")[2].split("/")[0] != bucket]
    assert bucket in store.delete_all(document).broken


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("put_object", {"Key": "k", "Body": b""}),
        ("get_object", {"Key": "k"}),
        ("head_object", {"Key": "k"}),
        ("copy_object", {"Key": "k", "CopySource": "plain/k"}),
        ("put_object_acl", {"Key": "k", "ACL": "public-read"}),
        ("put_object_retention", {"Key": "k", "Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": NOON}}),
        ("put_object_tagging", {"Key": "k", "Tagging": {"TagSet": []}}),
        ("get_object_tagging", {"Key": "k"}),
        ("put_bucket_versioning", {"VersioningConfiguration": {"Status": "Suspended"}}),
        ("put_bucket_policy", {"Policy": "{}"}),
        ("get_bucket_policy", {}),
        ("delete_bucket", {}),
        ("create_multipart_upload", {"Key": "k"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_else_is_possible_under_the_policy(store, operation, arguments):
    store.administrator.put_object(Bucket="plain", Key="k", Body=b"")
    with closing(store.client(policy(BUCKETS))) as client, pytest.raises(ClientError) as refused:
        getattr(client, operation)(Bucket="plain", **arguments)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize("operation", ["list_objects_v2", "list_object_versions", "get_bucket_versioning"])
def test_other_buckets_stay_closed(store, operation):
    with closing(store.client(policy(BUCKETS))) as client:
        with pytest.raises(ClientError, match="AccessDenied"):
            getattr(client, operation)(Bucket=ELSEWHERE)
        with pytest.raises(ClientError, match="AccessDenied"):
            client.list_buckets()
        store.administrator.put_object(Bucket=ELSEWHERE, Key="theirs", Body=b"")
        answer = client.delete_objects(Bucket=ELSEWHERE, Delete={"Objects": [{"Key": "theirs"}]})
    assert [(error["Key"], error["Code"]) for error in answer["Errors"]] == [("theirs", "AccessDenied")]
    assert store.administrator.list_objects_v2(Bucket=ELSEWHERE)["KeyCount"] == 1


def test_the_file_holds_no_name_of_a_bucket_and_no_wildcard_but_for_keys():
    document = json.loads(Path(POLICY_FILE).read_text())
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow"
        assert not [action for action in statement["Action"] if "*" in action]
        for arn in statement["Resource"]:
            assert arn.removeprefix("arn:aws:s3:::").removesuffix("/*").strip("${}") in BUCKETS


def test_the_applications_own_client_is_under_the_policy(app, s3, environment):
    """As everywhere in the suite: it can look, and can't write."""
    with closing(boto3.client("s3", region_name=environment["AWS_REGION"])) as client:
        bucket = environment["S3_BUCKET_LETTERS_PDF"]
        assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
        with pytest.raises(ClientError, match="AccessDenied"):
            client.put_object(Bucket=bucket, Key="k", Body=b"")
