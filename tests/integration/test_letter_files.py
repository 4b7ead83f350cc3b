"""Letter files on an S3 server over HTTP: what is found, what goes, and what is never claimed to be gone.

Of the requests under way together, seen to fail: with one at a time; without the answers that came after the refusal.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from app.storage.files import Deadline, LetterFiles, StoredFile, s3_client, worst_seconds_per_request
from app.storage.naming import Buckets, Letter, Naming
from tests.fakes.s3_under_policy import keep_many_versions
from tests.fakes.scripted_s3 import (
    NEVER_VERSIONED,
    Asked,
    delete_result,
    error,
    listing,
    scripted_s3,
)

REGION = "eu-west-2"
MOTO_ACCOUNT = "123456789012"
DAY = "2026-01-20/"
NOON = datetime(2026, 1, 20, 12, 0, tzinfo=UTC)


def letter(reference: str | None, **changes: object) -> Letter:
    plain = Letter(uuid4(), reference, NOON, status="delivered", key_type="normal", postage="second")
    return replace(plain, **changes)


def key_of(reference: str, postage_class: str = "2", second: int = 0) -> str:
    return f"{DAY}NOTIFY.{reference}.D.{postage_class}.C.{20260120120000 + second}.PDF"


def soon() -> Deadline:
    return Deadline(600)


def naming(prefix: str = "") -> Naming:
    names = Buckets(f"{prefix}letters", f"{prefix}test-letters", f"{prefix}invalid-pdf", f"{prefix}letters-scan")
    return Naming(names, ZoneInfo("Europe/London"))


@dataclass
class Store:
    """Buckets of one test, on the moto server."""

    client: object
    naming: Naming

    def __post_init__(self) -> None:
        self.files = LetterFiles(self.client, self.naming)
        self.buckets = self.naming.buckets
        self.requests = 0
        self.client.meta.events.register("before-send.s3", self._count)

    def _count(self, **_: object) -> None:
        self.requests += 1

    def create(self, *buckets: str, **options: object) -> None:
        for bucket in buckets:
            place = {"LocationConstraint": REGION}
            self.client.create_bucket(Bucket=bucket, CreateBucketConfiguration=place, **options)

    def put(self, *keys: str, bucket: str | None = None) -> None:
        for key in keys:
            self.client.put_object(Bucket=bucket or self.buckets.letters, Key=key, Body=b"%PDF")

    def put_many(self, keys: list[str]) -> None:
        """Past HTTP, into moto's own memory: a thousand a second instead of a hundred."""
        backend = s3_backends[MOTO_ACCOUNT]["aws"]
        for key in keys:
            backend.put_object(self.buckets.letters, key, b"")

    def version(self, status: str) -> None:
        self.client.put_bucket_versioning(Bucket=self.buckets.letters, VersioningConfiguration={"Status": status})

    def refuse_deletes(self, key_pattern: str) -> None:
        resource = f"arn:aws:s3:::{self.buckets.letters}/{key_pattern}"
        statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": resource}
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        self.client.put_bucket_policy(Bucket=self.buckets.letters, Policy=json.dumps(policy))

    def keys(self, bucket: str | None = None) -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket or self.buckets.letters)
        return {entry["Key"] for page in pages for entry in page.get("Contents", ())}

    def versions(self) -> set[tuple[str, str]]:
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.buckets.letters)
        return {
            (entry["Key"], entry["VersionId"])
            for page in pages
            for kind in ("Versions", "DeleteMarkers")
            for entry in page.get(kind, ())
        }


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    keep_many_versions()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def empty_store(moto_url: str) -> Iterator[Store]:
    """No buckets yet."""
    with closing(s3_client(REGION, moto_url)) as client:
        yield Store(client, naming(f"t{uuid4().hex[:12]}-"))


@pytest.fixture
def store(empty_store: Store) -> Store:
    names = empty_store.buckets
    empty_store.create(names.letters, names.test_letters, names.invalid_pdf, names.letters_scan)
    return empty_store


@pytest.fixture
def impatient_client() -> Iterator:
    """A client of the scripted server, without retries."""
    clients = []

    def client_for(url: str):
        clients.append(s3_client(REGION, url, connect_seconds=1, read_seconds=2, attempts_per_request=1))
        return clients[-1]

    yield client_for
    for client in clients:
        client.close()


# What is a letter's file, and what is not.


def test_every_file_of_a_letter_goes_and_no_other_does(store):
    others = {
        key_of("ABC"),
        key_of("A"),
        key_of("XAB"),
        key_of("AB").lower(),
        f"{DAY}NOTIFY.AB.D.2.C.20260120120000.TXT",
        f"{DAY}NOTIFY.AB.EXTRA.D.2.C.20260120120000.PDF",
        key_of("AB").replace(DAY, "2026-01-21/"),
        f"{DAY}NOTIFY.AB é+%20&<.PDF",
    }
    own = {key_of("AB"), key_of("AB", "1"), key_of("AB", "E", second=9)}
    store.put(*others, *own)
    of_ab = letter("ab")

    search = store.files.find([of_ab], soon())
    assert {file.key for file in search.files[of_ab.id]} == own
    assert store.keys() == own | others

    deletion = store.files.delete(search.files, soon())
    assert (deletion.gone, deletion.deleted, deletion.stopped) == ({of_ab.id}, 3, None)
    assert store.keys() == others


def test_a_letter_is_looked_for_in_all_of_its_places(store):
    scanned = letter("AB", status="virus-scan-failed")
    failed = letter("CD", status="technical-failure")
    invalid = letter("EF", status="validation-failed")
    test_letter = letter("GH", key_type="test", status="virus-scan-failed")
    rest = "D.2.C.20260120120000.PDF"
    kept = {"FAILURE/NOTIFY.CD." + rest, "ERROR/NOTIFY.AB." + rest, "NOTIFY.AB." + rest}
    in_scan = {"FAILURE/NOTIFY.AB." + rest, "ERROR/NOTIFY.CD." + rest}
    store.put(*kept, *in_scan, bucket=store.buckets.letters_scan)
    store.put(key_of("AB"), key_of("CD"), key_of("EF"), key_of("GH"))
    store.put("NOTIFY.EF." + rest, bucket=store.buckets.invalid_pdf)
    store.put("NOTIFY.GH." + rest, bucket=store.buckets.test_letters)

    search = store.files.find([scanned, failed, invalid, test_letter], soon())
    assert [len(search.files[one.id]) for one in (scanned, failed, invalid, test_letter)] == [2, 2, 1, 1]
    deletion = store.files.delete(search.files, soon())

    assert deletion.gone == {scanned.id, failed.id, invalid.id, test_letter.id}
    assert store.keys() == {key_of("EF"), key_of("GH")}
    assert store.keys(store.buckets.letters_scan) == kept
    assert store.keys(store.buckets.invalid_pdf) == store.keys(store.buckets.test_letters) == set()


def test_two_letters_with_one_reference_share_its_files(store):
    one, other = letter("ab"), letter("AB")
    store.put(key_of("AB"))
    search = store.files.find([one, other], soon())
    assert search.files[one.id] == search.files[other.id] != ()
    deletion = store.files.delete(search.files, soon())
    assert (deletion.gone, deletion.deleted) == ({one.id, other.id}, 1)


def test_letters_without_a_usable_reference_are_not_looked_for(store):
    store.put(key_of("AB"))
    before = store.requests
    unnamed, ambiguous = letter(" "), letter("AB.D")
    search = store.files.find([unnamed, ambiguous], soon())
    assert (search.files, search.unnamed) == ({unnamed.id: ()}, {unnamed.id})
    assert search.refused == {ambiguous.id: "AmbiguousReference"}
    assert store.requests == before
    assert store.files.delete(search.files, soon()).gone == {unnamed.id}


def test_letters_without_a_file_are_counted_in_each_bucket_looked_in(store):
    letters_bucket, scan = store.buckets.letters, store.buckets.letters_scan
    has_file, missing = letter("AB"), letter("CD")
    half, nowhere = letter("EF", status="technical-failure"), letter("GH", status="technical-failure")
    store.put(key_of("AB"), key_of("EF"))
    everything = [has_file, missing, half, nowhere, letter(None), letter("A.B")]
    search = store.files.find(everything, soon())

    counts = search.counts()
    assert counts.looked == {letters_bucket: 4, scan: 2}
    assert counts.missing == {letters_bucket: 2, scan: 1}
    without = search.counts(exclude={nowhere.id, has_file.id})
    assert (without.looked, without.missing) == ({letters_bucket: 2, scan: 1}, {letters_bucket: 1})


# Many files.


def test_a_letter_with_more_files_than_a_page_loses_all_of_them(store):
    store.put_many([key_of("AB", second=second) for second in range(1_100)] + [key_of("ABC")])
    of_ab = letter("AB")
    search = store.files.find([of_ab], soon())
    assert len(search.files[of_ab.id]) == 1_100
    assert store.files.delete(search.files, soon()).gone == {of_ab.id}
    assert store.keys() == {key_of("ABC")}


def test_files_that_straddle_a_page_are_found_on_both_sides(store):
    references = [f"R{number:03}" for number in range(40)]
    store.put_many([key_of(reference, second=second) for reference in references for second in range(60)])
    letters = [letter(reference) for reference in references[::2]]
    search = store.files.find(letters, soon())
    assert {one.reference: len(search.files[one.id]) for one in letters} == dict.fromkeys(references[::2], 60)


@pytest.mark.parametrize("versioning", [None, "Enabled"])
def test_a_full_batch_of_letters_costs_a_dozen_requests(store, versioning):
    if versioning:
        store.version(versioning)
    letters = [letter(f"REF{number:05}") for number in range(5_000)]
    store.put_many([store.naming.key(one) for one in letters])
    before = store.requests

    search = store.files.find(letters, soon())
    deletion = store.files.delete(search.files, soon())

    assert store.requests - before <= 12
    assert deletion.gone == {one.id for one in letters}
    assert (deletion.deleted, store.versions()) == (5_000, set())


def test_a_few_letters_in_a_full_folder_cost_about_one_listing_each(store):
    references = [f"REF{number:05}" for number in range(5_000)]
    store.put_many([key_of(reference) for reference in references])
    wanted = [letter(references[at]) for at in (3, 2_500, 4_999)]
    before = store.requests
    search = store.files.find(wanted, soon())
    assert store.requests - before == 1 + 3
    assert [[file.key for file in search.files[one.id]] for one in wanted] == [
        [key_of(one.reference)] for one in wanted
    ]


# Versions and locks.


@pytest.mark.parametrize("state", ["Enabled", "Suspended"])
def test_every_version_goes_from_a_bucket_with_versions(store, state):
    store.put(key_of("AB"))  # its version is "null"
    store.version("Enabled")
    store.put(key_of("AB"), key_of("AB"), key_of("XY"))
    store.version(state)
    of_xy = {pair for pair in store.versions() if pair[0] == key_of("XY")}
    of_ab = letter("AB")

    search = store.files.find([of_ab], soon())
    assert len(search.files[of_ab.id]) == 3
    assert "null" in {file.version_id for file in search.files[of_ab.id]}
    deletion = store.files.delete(search.files, soon())

    assert (deletion.gone, deletion.deleted) == ({of_ab.id}, 3)
    assert store.versions() == of_xy
    assert len(of_xy) == 1


def test_delete_markers_and_what_they_hide_go_and_do_not_count_as_missing(store):
    # Not in a suspended bucket: moto answers 500 to a delete of any version of a key that has a marker there.
    store.version("Enabled")
    hidden, marked = letter("AB"), letter("CD")
    store.put(key_of("AB"), key_of("CD"))
    (of_cd,) = [version for key, version in store.versions() if key == key_of("CD")]
    store.client.delete_object(Bucket=store.buckets.letters, Key=key_of("AB"))
    store.client.delete_object(Bucket=store.buckets.letters, Key=key_of("CD"))
    store.client.delete_object(Bucket=store.buckets.letters, Key=key_of("CD"), VersionId=of_cd)
    assert store.keys() == set()

    search = store.files.find([hidden, marked], soon())
    assert [len(search.files[one.id]) for one in (hidden, marked)] == [2, 1]
    assert search.counts().missing == {}
    assert store.files.delete(search.files, soon()).gone == {hidden.id, marked.id}
    assert store.versions() == set()


def test_many_versions_are_listed_over_the_ends_of_pages(store):
    store.version("Enabled")
    references = [f"R{number:03}" for number in range(30)]
    store.put_many([key_of(reference) for reference in references for _ in range(70)])
    letters = [letter(reference) for reference in references[::2]]
    search = store.files.find(letters, soon())
    assert {one.reference: len(search.files[one.id]) for one in letters} == dict.fromkeys(references[::2], 70)


def test_a_key_with_more_versions_than_a_page_loses_all_of_them(store):
    store.version("Enabled")
    store.put_many([key_of("AB")] * 1_100)
    of_ab = letter("AB")
    # Little time, so that going round in circles ends.
    search = store.files.find([of_ab], Deadline(32 + 8))
    assert len(search.files[of_ab.id]) == 1_100
    assert store.files.delete(search.files, soon()).gone == {of_ab.id}
    assert store.versions() == set()


def test_many_locked_versions_are_no_broken_bucket_and_spare_the_others(empty_store):
    store = empty_store
    store.create(store.buckets.letters, ObjectLockEnabledForBucket=True)
    letters = [letter(f"R{number:03}") for number in range(25)]
    for one in letters:
        key = store.naming.key(one)
        store.put(key)
        store.client.put_object_legal_hold(Bucket=store.buckets.letters, Key=key, LegalHold={"Status": "ON"})
        store.put(key)  # a second version, which is not locked
    search = store.files.find(letters, soon())
    deletion = store.files.delete(search.files, soon())
    assert deletion.failed == dict.fromkeys([one.id for one in letters], "ObjectLocked")
    assert (deletion.deleted, deletion.broken) == (25, {})
    assert len(store.versions()) == 25


@pytest.mark.parametrize("lock", ["retention", "legal hold"])
def test_a_locked_version_is_told_from_one_that_is_merely_refused(empty_store, lock):
    store = empty_store
    store.create(store.buckets.letters, ObjectLockEnabledForBucket=True)
    store.put(key_of("AB"), key_of("CD"), key_of("EF"))
    if lock == "retention":
        until = {"Mode": "COMPLIANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(days=9)}
        store.client.put_object_retention(Bucket=store.buckets.letters, Key=key_of("AB"), Retention=until)
    else:
        store.client.put_object_legal_hold(Bucket=store.buckets.letters, Key=key_of("AB"), LegalHold={"Status": "ON"})
    store.refuse_deletes(key_of("CD"))
    locked, refused, free = letter("AB"), letter("CD"), letter("EF")

    search = store.files.find([locked, refused, free], soon())
    deletion = store.files.delete(search.files, soon())

    assert deletion.failed == {locked.id: "ObjectLocked", refused.id: "AccessDenied"}
    assert deletion.gone == {free.id}
    assert {key for key, _ in store.versions()} == {key_of("AB"), key_of("CD")}


def test_a_lock_is_recognised_by_the_version_when_the_refusal_does_not_name_it(empty_store):
    store = empty_store
    store.create(store.buckets.letters, ObjectLockEnabledForBucket=True)
    store.put(key_of("AB"))
    hold = {"Status": "ON"}
    store.client.put_object_legal_hold(Bucket=store.buckets.letters, Key=key_of("AB"), LegalHold=hold)
    store.refuse_deletes("*")  # answers "Access Denied" before the lock is looked at
    locked = letter("AB")
    search = store.files.find([locked], soon())
    assert store.files.delete(search.files, soon()).failed == {locked.id: "ObjectLocked"}


# Buckets and keys that refuse.


def test_a_missing_bucket_is_one_record_and_the_others_go_on(empty_store):
    store = empty_store
    store.create(store.buckets.letters)
    scanned, plain = letter("AB", status="virus-scan-failed"), letter("CD")
    store.put(key_of("AB"), key_of("CD"))

    search = store.files.find([scanned, plain], soon())
    assert search.broken == {store.buckets.letters_scan: "NoSuchBucket"}
    assert search.passed_over == {scanned.id: store.buckets.letters_scan}
    assert (list(search.files), search.stopped) == ([plain.id], None)
    assert search.counts().looked == {store.buckets.letters: 1}

    missing = StoredFile(store.buckets.letters_scan, key_of("AB"), None)
    deletion = store.files.delete({scanned.id: (missing,), **search.files}, soon())
    assert deletion.broken == {store.buckets.letters_scan: "NoSuchBucket"}
    assert deletion.passed_over == {scanned.id: store.buckets.letters_scan}
    assert deletion.gone == {plain.id}
    assert store.keys() == {key_of("AB")}


def test_one_refused_key_fails_its_letter_only(store):
    refused, free = letter("AB"), letter("CD")
    store.put(key_of("AB"), key_of("AB", "1"), key_of("CD"))
    store.refuse_deletes(key_of("AB"))
    search = store.files.find([refused, free], soon())
    deletion = store.files.delete(search.files, soon())
    assert deletion.failed == {refused.id: "AccessDenied"}
    assert (deletion.gone, deletion.deleted, deletion.broken) == ({free.id}, 2, {})
    assert store.keys() == {key_of("AB")}


@pytest.mark.parametrize(("refused", "broken"), [(19, False), (20, True), (21, True)])
def test_a_bucket_that_refuses_every_key_is_one_record(store, refused, broken):
    letters = [letter(f"R{number:03}") for number in range(refused)]
    store.put(*(store.naming.key(one) for one in letters))
    store.refuse_deletes("*")
    search = store.files.find(letters, soon())
    deletion = store.files.delete(search.files, soon())
    bucket, ids = store.buckets.letters, [one.id for one in letters]
    assert deletion.gone == set()
    assert deletion.broken == ({bucket: "AccessDenied"} if broken else {})
    assert deletion.passed_over == (dict.fromkeys(ids, bucket) if broken else {})
    assert deletion.failed == ({} if broken else dict.fromkeys(ids, "AccessDenied"))


def test_one_key_that_goes_shows_that_the_bucket_does_not_refuse_everything(store):
    letters = [letter(f"R{number:03}") for number in range(30)]
    store.put(*(store.naming.key(one) for one in letters), key_of("FREE"))
    store.refuse_deletes("*NOTIFY.R*")
    free = letter("FREE")
    search = store.files.find([*letters, free], soon())
    deletion = store.files.delete(search.files, soon())
    assert (deletion.gone, deletion.broken) == ({free.id}, {})
    assert deletion.failed == dict.fromkeys([one.id for one in letters], "AccessDenied")


def test_answers_are_read_key_by_key(impatient_client):
    kinds = ["gone", "never there", "no version", "internal", "silent", "marked", "both"]
    ids = {kind: uuid4() for kind in kinds}
    key = {kind: key_of(kind.upper().replace(" ", "-")) for kind in kinds}
    answer = delete_result(
        deleted=[key["gone"], key["both"], "another key"],
        marked=[key["marked"]],
        errors=[
            (key["never there"], "NoSuchKey"),
            (key["no version"], "NoSuchVersion"),
            (key["internal"], "InternalError"),
            (key["both"], "InvalidRequest"),
        ],
    )
    with scripted_s3(lambda _: answer) as script:
        stored = LetterFiles(impatient_client(script.url), naming())
        files = {ids[kind]: (StoredFile("letters", key[kind], None),) for kind in kinds}
        deletion = stored.delete(files, soon())
        assert script.asked[0].objects == [(key[kind], None) for kind in kinds]
    assert deletion.gone == {ids["gone"], ids["never there"], ids["no version"]}
    assert deletion.failed == {
        ids["internal"]: "InternalError",
        ids["marked"]: "OnlyMarked",
        ids["both"]: "InvalidRequest",
    }
    assert deletion.unknown == {ids["silent"]}
    assert deletion.deleted == 3


def numbered_files(count: int) -> dict[UUID, tuple[StoredFile, ...]]:
    return {uuid4(): (StoredFile("letters", key_of(f"R{number:05}"), None),) for number in range(count)}


@pytest.mark.parametrize("code", ["SlowDown", "ServiceUnavailable"])
def test_a_single_slow_down_ends_the_deletion_after_what_was_confirmed(impatient_client, code):
    def first_is_throttled(asked: Asked):
        first, *others = [key for key, _ in asked.objects]
        return delete_result(deleted=others, errors=[(first, code)])

    files = numbered_files(1_500)
    first, *others = list(files)
    with scripted_s3(first_is_throttled) as script:
        deletion = LetterFiles(impatient_client(script.url), naming()).delete(files, soon())
        assert len(script.asked) == 1
    assert (deletion.stopped, deletion.unknown, deletion.failed) == ("SlowDown", {first}, {})
    assert deletion.gone == set(others[:999])


def test_no_delete_names_more_than_a_thousand_keys_and_the_first_letters_go_first(impatient_client):
    files = numbered_files(2_001)
    with scripted_s3(lambda asked: delete_result(deleted=[key for key, _ in asked.objects])) as script:
        deletion = LetterFiles(impatient_client(script.url), naming()).delete(files, soon())
    assert sorted(len(asked.objects) for asked in script.asked) == [1, 1_000, 1_000]
    sent = [key for asked in script.asked for key, _ in asked.objects]
    wanted = [file.key for (file,) in files.values()]
    assert (sent[:1_000], sorted(sent)) == (wanted[:1_000], sorted(wanted))
    assert deletion.gone == set(files)


def test_after_the_first_request_several_are_under_way_and_all_of_their_answers_count(impatient_client):
    """The second is told to slow down once three others have come: what those confirm is gone, and no more is sent."""
    files = numbered_files(7_000)
    by_key = {file.key: letter_id for letter_id, (file,) in files.items()}
    of_batch = [set(list(files)[start : start + 1_000]) for start in range(0, 7_000, 1_000)]
    together = Barrier(4, timeout=20)

    def second_is_throttled(asked: Asked):
        keys = [key for key, _ in asked.objects]
        if by_key[keys[0]] not in of_batch[0]:
            together.wait()
        if by_key[keys[0]] in of_batch[1]:
            return error(503, "SlowDown")
        return delete_result(deleted=keys)

    with scripted_s3(second_is_throttled) as script:
        deletion = LetterFiles(impatient_client(script.url), naming()).delete(files, soon())
        assert len(script.asked) == 5
    assert (deletion.stopped, deletion.failed) == ("SlowDown", {})
    assert (deletion.unknown, deletion.gone) == (of_batch[1], of_batch[0] | of_batch[2] | of_batch[3] | of_batch[4])


# Requests that fail.

FAILURES = [
    (error(503, "SlowDown"), "SlowDown", None),
    (error(503, "ServiceUnavailable"), "SlowDown", None),
    (error(429, "TooManyRequests"), "SlowDown", None),
    ((503, ""), "SlowDown", None),
    (error(500, "InternalError"), "Unreachable", None),
    ((502, "<html>"), "Unreachable", None),
    (error(400, "RequestTimeout"), "Unreachable", None),
    ((200, "<ListBucketResult><Conte"), "Unreachable", None),
    (error(501, "NotImplemented"), None, "NotImplemented"),
    (error(404, "NoSuchBucket"), None, "NoSuchBucket"),
    (error(403, "AccessDenied"), None, "AccessDenied"),
    (error(403, "InvalidAccessKeyId"), None, "InvalidAccessKeyId"),
    (error(403, "SignatureDoesNotMatch"), None, "SignatureDoesNotMatch"),
    (error(400, "ExpiredToken"), None, "ExpiredToken"),
]


@pytest.mark.parametrize("failing", ["versioning", "listing", "deletion"])
@pytest.mark.parametrize(("answer", "stopped", "broken"), FAILURES)
def test_a_request_that_fails_stops_everything_or_breaks_its_bucket(impatient_client, failing, answer, stopped, broken):
    def fail_at_one(asked: Asked):
        if "versioning" in asked.target:
            return answer if failing == "versioning" else NEVER_VERSIONED
        if "delete" in asked.target or asked.method == "DELETE":
            return answer
        return answer if failing == "listing" else listing([key_of("AB")])

    of_ab = letter("AB")
    with scripted_s3(fail_at_one) as script:
        stored = LetterFiles(impatient_client(script.url), naming())
        outcome = search = stored.find([of_ab], soon())
        if failing == "deletion":
            outcome = deletion = stored.delete(search.files, soon())
            assert (deletion.gone, deletion.deleted) == (set(), 0)
            assert deletion.unknown == ({of_ab.id} if stopped else set())
        else:
            assert search.files == {}
    assert outcome.stopped == stopped
    assert outcome.broken == ({"letters": broken} if broken else {})
    assert outcome.passed_over == ({of_ab.id: "letters"} if broken else {})


@pytest.mark.parametrize("body", ["", "<html/>", "<ListBucketResult/>"])
def test_an_answer_that_is_no_listing_does_not_prove_that_there_is_no_file(impatient_client, body):
    with scripted_s3(lambda asked: NEVER_VERSIONED if "versioning" in asked.target else (200, body)) as script:
        search = LetterFiles(impatient_client(script.url), naming()).find([letter("AB")], soon())
    assert (search.files, search.stopped) == ({}, "Unreachable")


@pytest.mark.parametrize("body", ["", "<html/>", "<DeleteResult/>"])
def test_an_answer_that_names_no_key_confirms_none(impatient_client, body):
    files = numbered_files(2)
    with scripted_s3(lambda _: (200, body)) as script:
        deletion = LetterFiles(impatient_client(script.url), naming()).delete(files, soon())
    assert (deletion.gone, deletion.unknown, deletion.deleted) == (set(), set(files), 0)


def test_nothing_is_claimed_when_s3_is_down(impatient_client):
    with socket.socket() as closed_port:
        closed_port.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://127.0.0.1:{closed_port.getsockname()[1]}"
        stored = LetterFiles(impatient_client(url), naming())
        search = stored.find([letter("AB"), letter("CD")], soon())
        files = numbered_files(1_001)
        deletion = stored.delete(files, soon())
    assert (search.stopped, search.files, search.broken) == ("Unreachable", {}, {})
    assert (deletion.stopped, deletion.gone, deletion.failed) == ("Unreachable", set(), {})
    assert deletion.unknown == set(list(files)[:1_000])


def test_without_credentials_every_bucket_is_broken(store, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with closing(s3_client(REGION, store.client.meta.endpoint_url)) as client:
        search = LetterFiles(client, store.naming).find([letter("AB", status="technical-failure")], soon())
    assert search.broken == dict.fromkeys([store.buckets.letters, store.buckets.letters_scan], "NoCredentials")
    assert search.files == {}


# Time.


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize(("seconds_left", "stopped"), [(31.9, "OutOfTime"), (32, None)])
def test_no_request_is_sent_that_could_outlive_the_deadline(store, seconds_left, stopped):
    store.put(key_of("AB"))
    of_ab = letter("AB")
    files = {of_ab.id: (StoredFile(store.buckets.letters, key_of("AB"), None),)}
    before = store.requests
    deadline = Deadline(seconds_left, Clock())
    search, deletion = store.files.find([of_ab], deadline), store.files.delete(files, deadline)
    assert (search.stopped, deletion.stopped) == (stopped, stopped)
    if stopped:
        assert store.requests == before
        assert search.files == {}
        assert (deletion.gone, deletion.unknown) == (set(), set())
        assert store.keys() == {key_of("AB")}


def test_what_was_confirmed_before_time_ran_out_counts(store):
    clock = Clock()
    files = numbered_files(1_500)
    files = {letter_id: (replace(file, bucket=store.buckets.letters),) for letter_id, (file,) in files.items()}
    store.put_many([file.key for (file,) in files.values()])
    store.client.meta.events.register("before-send.s3.DeleteObjects", lambda **_: setattr(clock, "seconds", 70))
    deletion = store.files.delete(files, Deadline(100, clock))
    ids = list(files)
    assert (deletion.stopped, deletion.gone, deletion.unknown) == ("OutOfTime", set(ids[:1_000]), set())
    assert len(store.keys()) == 500


def test_letters_looked_for_before_time_ran_out_are_answered_for(store):
    clock = Clock()
    store.put(key_of("AB"))
    first, second, half = (
        letter("AB"),
        letter("ZZ", key_type="test"),
        letter("CD", status="technical-failure"),
    )
    store.client.meta.events.register(
        "before-send.s3.ListObjectsV2",
        lambda request, **_: setattr(clock, "seconds", 70 if "NOTIFY.CD" in request.url else 0),
    )
    search = store.files.find([first, half, second], Deadline(100, clock))
    assert search.stopped == "OutOfTime"
    assert {letter_id: len(files) for letter_id, files in search.files.items()} == {first.id: 1}


def test_the_longest_request_is_known_from_the_clients_own_time_outs(moto_url):
    with closing(s3_client(REGION, moto_url)) as usual:
        assert worst_seconds_per_request(usual) == 2 * (3 + 10) + 6
    with closing(s3_client(REGION, moto_url, connect_seconds=1, read_seconds=2, attempts_per_request=1)) as short:
        assert worst_seconds_per_request(short) == 3


def test_results_show_no_references(store):
    store.put(key_of("SECRET"))
    store.refuse_deletes("*")
    search = store.files.find([letter("SECRET"), letter("SE.CRET")], soon())
    deletion = store.files.delete(search.files, soon())
    assert len(deletion.failed) == 1
    assert "CRET" not in repr(search) + repr(deletion)
