"""Keys that XML can't carry, and stores that delete in other ways than AWS: what is listed goes, and nothing else.

Seen to fail: with DeleteObjects for every key (MalformedXML, or a file that is said to be gone and is not); with
botocore's own decoding of a listing; without Content-MD5; without the fallback to single deletes.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from app.accounts.files import FilesRefused, UserFiles
from app.storage import client as client_module
from app.storage import object_keys
from app.storage.client import Deadline, Requests, s3_client
from app.storage.deletion import delete
from app.storage.inventory import inventory
from app.storage.listing import StoredFile
from tests.fakes.scripted_s3 import error
from tests.fakes.strict_s3 import StrictS3, strict_s3

USER = UUID("00000000-0000-4000-8000-000000000001")
PLAIN = [b"a.csv", "é+%20 &<>'\".csv".encode(), b"deep/../b"]
ODD = [
    b"\x00",
    b"\x01",
    b"tab\t",
    b"\r\nlines",
    b"\x7f",
    "\x85".encode(),
    "\ufffe".encode(),
    "\uffff".encode(),
    b"no utf-8 \xff\xfe\x80",
    b"\xed\xa0\x80 a surrogate",
]
NO_BULK = [error(501, "NotImplemented"), error(405, "MethodNotAllowed")]


@contextmanager
def served(server: StrictS3) -> Iterator:
    """A client of the server, without retries."""
    with strict_s3(server), closing(s3_client("eu-west-1", server.url, attempts_per_request=1)) as client:
        yield client


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def stored(keys: list[bytes], *, is_versioned: bool) -> set[tuple[bytes, str]]:
    versions = ("v1", "v2") if is_versioned else ("",)
    return {(key, version) for key in keys for version in versions}


@pytest.mark.parametrize("bulk", [None, *NO_BULK], ids=["bulk", "no bulk", "bulk not allowed"])
@pytest.mark.parametrize("is_versioned", [False, True], ids=["plain", "versioned"])
def test_every_file_of_a_user_goes_whatever_its_key_is_and_however_the_store_deletes(is_versioned, bulk):
    own = [f"users/{USER}/".encode() + key for key in (*PLAIN, *ODD)]
    others = stored([f"users/{USER}".encode() + key for key in ODD] + ["\ufffd".encode()], is_versioned=is_versioned)
    server = StrictS3(others | stored(own, is_versioned=is_versioned), is_versioned=is_versioned, bulk=bulk)
    with served(server) as client:
        assert sum(UserFiles(client, "bucket", USER, Deadline(600)).delete()) == len(
            stored(own, is_versioned=is_versioned)
        )
    assert server.files == others
    assert set(server.in_bulk) == (set(own[: len(PLAIN)]) if bulk is None else set())


@pytest.mark.parametrize("is_versioned", [False, True], ids=["plain", "versioned"])
def test_an_audit_reads_every_key_and_goes_on_behind_any_of_them(is_versioned):
    names = sorted([*PLAIN, *ODD])
    server = StrictS3(stored(names, is_versioned=is_versioned), is_versioned=is_versioned)
    with served(server) as client:

        def read(after: str | None) -> list[bytes]:
            reading = inventory(client, Requests(Deadline(600), 1), "bucket", after, None)
            return [object_keys.to_bytes(one.key) for page in iter(reading.read, None) for one in page]

        assert sorted(read(None)) == names
        for at, name in enumerate(names):
            as_written_down = object_keys.to_column(name.decode("utf-8", "surrogateescape"))
            assert sorted(read(object_keys.from_column(as_written_down))) == names[at + 1 :]


@pytest.mark.parametrize("name", [*PLAIN, *ODD])
def test_a_column_can_hold_any_key(connection, name):
    key = name.decode("utf-8", "surrogateescape")
    held = connection.exec_driver_sql("SELECT %s::text", (object_keys.to_column(key),)).scalar_one()
    assert object_keys.from_column(held) == key


def test_a_key_that_the_server_fails_at_keeps_its_own_file_alone():
    bad = f"users/{USER}/\x01".encode()
    server = StrictS3({(bad, ""), (bad + b"2", ""), (bad + b"3", "")}, failing=frozenset({bad}))
    with served(server) as client, pytest.raises(FilesRefused, match=", of 1 file"):
        list(UserFiles(client, "bucket", USER, Deadline(600)).delete())
    assert server.files == {(bad, "")}


@pytest.mark.parametrize("is_versioned", [False, True], ids=["plain", "versioned"])
def test_files_that_can_not_go_keep_none_of_those_behind_them(is_versioned):
    """Two whole pages of them, and one more among those that go."""
    names = [f"users/{USER}/{letter}".encode() for letter in "abcdefghijk"]
    locked = frozenset([*names[:6], names[8]])
    server = StrictS3(stored(names, is_versioned=is_versioned), is_versioned=is_versioned, locked=locked)
    kept = stored([*locked], is_versioned=is_versioned)
    with served(server) as client, pytest.raises(FilesRefused, match=f"InvalidRequest, of {len(kept)} files"):
        list(UserFiles(client, "bucket", USER, Deadline(600)).delete())
    assert server.files == kept


def test_a_server_that_fails_at_key_after_key_is_left_alone():
    names = [f"{number:02}\x01".encode() for number in range(20)]
    server = StrictS3({(name, "") for name in names}, failing=frozenset(names))
    files = {uuid4(): (StoredFile("bucket", name.decode(), None),) for name in names}
    with served(server) as client:
        deletion = delete(client, files, Requests(Deadline(600), 1))
    assert (deletion.stopped, deletion.gone, deletion.failed) == ("Unreachable", set(), {})
    assert len(server.alone) < len(names)


def test_a_listings_times_are_read_without_the_slow_parser(monkeypatch):
    """A third of a letter batch's time in Python went there. Seen to fail with a client of botocore's usual session."""
    monkeypatch.setattr("dateutil.parser.parse", lambda text, **_: pytest.fail(f"parsed slowly: {text}"))
    server = StrictS3(stored([b"a.pdf"], is_versioned=False), is_versioned=False)
    with served(server) as client:
        (entry,) = client.list_objects_v2(Bucket="bucket")["Contents"]
    assert entry["LastModified"].utcoffset() == timedelta(0)


def test_any_form_of_a_time_is_read():
    at = datetime(2026, 11, 25, 8, 30, tzinfo=UTC)
    forms = ["2026-11-25T08:30:00.000Z", "2026-11-25T08:30:00+00:00", "Wed, 25 Nov 2026 08:30:00 GMT", at.timestamp()]
    assert [client_module._time(form) for form in forms] == [at] * len(forms)
