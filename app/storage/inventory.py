"""Everything that a bucket holds, key by key in order, a page at a time. No more than a page is in memory.

A key comes with all of its versions and markers, never with some of them. A reading can begin behind any key, one that
is gone by now included: keys are compared here, and S3's own markers, which servers read differently when what they
name is gone, are made of what is there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from app.storage.client import Requests
from app.storage.listing import Cursor, StoredFile, list_objects, list_versions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key with everything that is stored under it."""

    bucket: str
    key: str = field(repr=False)
    files: tuple[StoredFile, ...]
    last_modified: datetime
    """Aware; the latest of the versions'."""


class Inventory(Protocol):
    def read(self) -> list[StoredKey] | None:
        """The next keys, perhaps none; None once there are no more. Raises Stopped or BucketRefuses."""
        ...


def inventory(client: "S3Client", requests: Requests, bucket: str, after: str | None, before: str | None) -> Inventory:
    """The bucket's keys with `after < key < before`, after one request for its state. Raises as `read` does."""
    state = requests.send(client.get_bucket_versioning, Bucket=bucket)
    kind = VersionInventory if "Status" in state else ObjectInventory
    return kind(client, requests, bucket, after, before)


class ObjectInventory:
    """Of a bucket that never had versions."""

    def __init__(
        self, client: "S3Client", requests: Requests, bucket: str, after: str | None, before: str | None
    ) -> None:
        self._client, self._requests, self._bucket = client, requests, bucket
        self._before = before
        self._cursor: Cursor | None = {"StartAfter": after} if after else {}

    def read(self) -> list[StoredKey] | None:
        if self._cursor is None:
            return None
        entries, self._cursor = list_objects(self._client, self._requests, self._bucket, "", self._cursor)
        found = [
            StoredKey(
                self._bucket,
                entry["Key"],
                (StoredFile(self._bucket, entry["Key"], None),),
                entry["LastModified"],
            )
            for entry in entries
        ]
        if self._cursor and found:
            self._cursor = {"StartAfter": found[-1].key}  # a token would do as well, but not in another process
        if found and _is_beyond(found[-1].key, self._before):
            self._cursor = None
            found = [one for one in found if not _is_beyond(one.key, self._before)]
        return found


class VersionInventory:
    """Of a bucket with versions, be they suspended. The last key of a page waits for the next one: it may go on."""

    def __init__(
        self, client: "S3Client", requests: Requests, bucket: str, after: str | None, before: str | None
    ) -> None:
        self._client, self._requests, self._bucket = client, requests, bucket
        self._done, self._before = after or "", before
        self._open: dict[str, list[dict[str, Any]]] = {}
        self._cursor: Cursor | None = None
        self._is_at_end = False

    def read(self) -> list[StoredKey] | None:
        if self._is_at_end:
            return None
        begins = self._cursor is None
        cursor = self._anchor() if self._cursor is None else self._cursor
        entries, following = self._page("", cursor)
        if not entries and not begins:
            # The end; or someone has deleted the version that the cursor names, and the server lists nothing behind it.
            self._cursor, self._open = None, {}
            return []
        for entry in entries:
            if entry["Key"] > self._done:
                self._open.setdefault(entry["Key"], []).append(entry)
        complete = sorted(self._open)
        if following is None:
            self._is_at_end = True
        elif complete:
            complete.pop()
        found = [self._stored(key, self._open.pop(key)) for key in complete]
        self._cursor = following
        if found:
            self._done = found[-1].key
            if _is_beyond(self._done, self._before):
                self._is_at_end = True
        return [one for one in found if not _is_beyond(one.key, self._before)]

    def _stored(self, key: str, entries: Iterable[Mapping[str, Any]]) -> StoredKey:
        files = tuple(StoredFile(self._bucket, key, entry["VersionId"]) for entry in entries)
        return StoredKey(self._bucket, key, files, max(entry["LastModified"] for entry in entries))

    def _anchor(self) -> Cursor:
        """A cursor at or before what was done, made of a version that is there; else the bucket's beginning.

        Of the key itself, or of the nearest: the longest part of it that something before it begins with.
        """
        cursor: Cursor = {}
        shortest, longest = 1, len(self._done)
        length = longest
        while shortest <= longest:
            entries, _ = self._page(self._done[:length], {})
            last = max((one for one in entries if one["Key"] <= self._done), key=_key, default=None)
            if last is None:
                longest = length - 1
            else:
                shortest = length + 1
                cursor = {"KeyMarker": last["Key"], "VersionIdMarker": last["VersionId"]}
            length = (shortest + longest) // 2
        return cursor

    def _page(self, prefix: str, after: Cursor) -> tuple[list[dict[str, Any]], Cursor | None]:
        return list_versions(self._client, self._requests, self._bucket, prefix, after)


def _key(entry: Mapping[str, Any]) -> str:
    return str(entry["Key"])


def _is_beyond(key: str, before: str | None) -> bool:
    return before is not None and key >= before
