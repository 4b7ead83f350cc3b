"""Deletes files. A file is gone only if S3 said so of this very file; silence and doubt leave it."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import UUID

from botocore.exceptions import ClientError

from app.storage import object_keys
from app.storage.client import Requests
from app.storage.errors import (
    ACCESS_ERRORS,
    ALREADY_GONE,
    NO_BULK_DELETE,
    OF_THE_BUCKET,
    SLOW_DOWN,
    THROTTLED,
    UNREACHABLE,
    BucketRefuses,
    Stopped,
)
from app.storage.listing import StoredFile

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEYS_PER_REQUEST = 1000
REQUESTS_AT_ONCE = 4
"""Once the first was answered well. S3 takes about 3,500 deleted keys a second."""
KEYS_THAT_SPEAK_FOR_A_BUCKET = 20
"""When so many keys of a bucket were answered, all with the same access error, the bucket refuses."""
SERVER_ERRORS_IN_A_ROW = 3
"""One key that the server fails at says nothing about the server; so many in a row do."""
LOCK_LOOKUPS = 10
"""So many refused versions are asked whether they are locked, in one deletion; the others keep S3's code."""

OBJECT_LOCKED = "ObjectLocked"
ONLY_MARKED = "OnlyMarked"
"""The bucket got versions after it was listed, so that the delete hid the file and removed nothing."""


@dataclass(slots=True)
class Deletion:
    """What became of the letters' files. Letters in none of the collections had nothing sent for them."""

    gone: set[UUID] = field(default_factory=set)
    """Every file of the letter is confirmed gone."""
    failed: dict[UUID, str] = field(default_factory=dict)
    """Letters of which a file can't go, with the first such file's code."""
    unknown: set[UUID] = field(default_factory=set)
    """Letters with files sent, of which not every one was confirmed."""
    passed_over: dict[UUID, str] = field(default_factory=dict)
    """Letters with a file left in a broken bucket, with its name."""
    broken: dict[str, str] = field(default_factory=dict)
    """Buckets that are missing or refuse everything, with the error's code."""
    files_gone: set[StoredFile] = field(default_factory=set)
    """Files (objects, versions, markers) that are confirmed gone."""
    stopped: str | None = None
    """Why the deletion ended early: SlowDown, Unreachable or OutOfTime."""

    @property
    def deleted(self) -> int:
        """How many files are confirmed gone."""
        return len(self.files_gone)


def delete(client: "S3Client", files: Mapping[UUID, Sequence[StoredFile]], requests: Requests) -> Deletion:
    """Deletes the letters' files in the order given, bucket by bucket, each file once, some requests at a time."""
    result = Deletion()
    work = _Work(client, requests)
    try:
        for bucket, of_bucket in _by_bucket(files).items():
            try:
                work.delete(bucket, of_bucket)
            except BucketRefuses as refusal:
                result.broken[bucket] = refusal.code
    except Stopped as stop:
        result.stopped = stop.reason
    result.files_gone = work.gone
    for letter_id, of_letter in files.items():
        _conclude(letter_id, of_letter, work, result)
    return result


def _by_bucket(files: Mapping[UUID, Sequence[StoredFile]]) -> dict[str, list[StoredFile]]:
    by_bucket: dict[str, list[StoredFile]] = {}
    for file in dict.fromkeys(file for of_letter in files.values() for file in of_letter):
        by_bucket.setdefault(file.bucket, []).append(file)
    return by_bucket


def _batches(files: list[StoredFile], size: int) -> list[list[StoredFile]]:
    return [files[start : start + size] for start in range(0, len(files), size)]


def _conclude(letter_id: UUID, files: Sequence[StoredFile], work: "_Work", result: Deletion) -> None:
    left = [file for file in files if file not in work.gone]
    broken = next((file.bucket for file in left if file.bucket in result.broken), None)
    reason = next((work.refused[file] for file in left if file in work.refused), None)
    if not left:
        result.gone.add(letter_id)
    elif broken is not None:
        result.passed_over[letter_id] = broken
    elif reason is not None:
        result.failed[letter_id] = reason
    elif any(file in work.sent for file in files):
        result.unknown.add(letter_id)


Answer = Mapping[str, Any]
"""Of a DeleteObjects, or put into the form of one."""
_Send = Callable[[str, list[StoredFile]], Answer]
_UnderWay = tuple[list[StoredFile], "Future[Answer]"]
"""The files of a request that was sent, and its answer."""


class _Work:
    """Sends the requests and keeps what was answered, file by file."""

    def __init__(self, client: "S3Client", requests: Requests) -> None:
        self._client, self._requests = client, requests
        self._lock_lookups_left = LOCK_LOOKUPS
        self._silent_in_a_row = 0
        self._answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.sent: set[StoredFile] = set()
        self.gone: set[StoredFile] = set()
        self.refused: dict[StoredFile, str] = {}

    def delete(self, bucket: str, files: list[StoredFile]) -> None:
        """Delete in bulk; by single requests what a bulk can't name, or all where the store has no DeleteObjects.

        Raises Stopped or BucketRefuses.
        """
        alone = [file for file in files if not object_keys.fits_xml(file.key)]
        try:
            self._each(
                bucket,
                _batches([file for file in files if object_keys.fits_xml(file.key)], KEYS_PER_REQUEST),
                self._many,
            )
        except BucketRefuses as refusal:
            if refusal.code not in NO_BULK_DELETE:
                raise
            alone = [file for file in files if file not in self.gone]
        self._each(bucket, _batches(alone, 1), self._one)

    def _each(self, bucket: str, batches: Iterable[list[StoredFile]], send: _Send) -> None:
        """Sends a request per batch: one, to see how S3 is, then some at a time.

        Raises Stopped or BucketRefuses, also when only keys' answers say so. Then no other is sent, but the answers of
        those under way are read: what they confirm is gone.
        """
        under_way: deque[_UnderWay] = deque()
        at_once = 1
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            try:
                for batch in batches:
                    if len(under_way) == at_once:
                        self._finish(bucket, *under_way.popleft())
                        at_once = REQUESTS_AT_ONCE
                    self._requests.admit()
                    self.sent.update(batch)
                    under_way.append((batch, pool.submit(send, bucket, batch)))
                while under_way:
                    self._finish(bucket, *under_way.popleft())
            finally:
                for batch, answer in under_way:
                    if answer.exception() is None:
                        self._read(batch, answer.result())

    def _many(self, bucket: str, batch: list[StoredFile]) -> Answer:
        return self._requests.send(
            self._client.delete_objects,
            Bucket=bucket,
            Delete={"Quiet": False, "Objects": [_identifier(file) for file in batch]},
        )

    def _one(self, bucket: str, batch: list[StoredFile]) -> Answer:
        """One file, its key percent-encoded in the path. An answer of 500 is about this key alone, and says nothing."""
        (file,) = batch
        named = {"Key": file.key, "VersionId": file.version_id}
        address = {**_identifier(file), "Key": object_keys.as_parameter(file.key)}
        try:
            said = self._requests.send(self._client.delete_object, Bucket=bucket, **address)
        except BucketRefuses as refusal:
            if refusal.code in OF_THE_BUCKET:
                raise
            return {"Errors": [{**named, "Code": refusal.code, "Message": _message(refusal)}]}
        except Stopped as stop:
            if stop.reason != UNREACHABLE or not isinstance(stop.__cause__, ClientError):
                raise
            return {}
        if said["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.NO_CONTENT:
            return {}  # of a proxy, for instance: it proves nothing
        return {"Deleted": [{**named, "DeleteMarker": said.get("DeleteMarker")}]}

    def _finish(self, bucket: str, batch: list[StoredFile], answer: "Future[Answer]") -> None:
        """Waits for a request's answer and reads it. Raises Stopped or BucketRefuses."""
        codes = self._read(batch, answer.result())
        self._answers[bucket].update("" if file in self.gone else codes[file] for file in codes)
        if any(code in THROTTLED for code in codes.values()):
            raise Stopped(SLOW_DOWN)
        self._silent_in_a_row = 0 if codes else self._silent_in_a_row + 1
        if self._silent_in_a_row == SERVER_ERRORS_IN_A_ROW:
            raise Stopped(UNREACHABLE)
        self._raise_if_all_refused(bucket)

    def _read(self, batch: list[StoredFile], answer: Answer) -> dict[StoredFile, str]:
        """The code of each file that was answered, "" if it is gone; keeps gone and refused files."""
        deleted = {(entry.get("Key"), entry.get("VersionId")): entry for entry in answer.get("Deleted", ())}
        errors = {(entry.get("Key"), entry.get("VersionId")): entry for entry in answer.get("Errors", ())}
        codes: dict[StoredFile, str] = {}
        for file in batch:
            name = (file.key, file.version_id)
            # An error that names no version (moto's never do) concerns the versions that are not confirmed.
            error = errors.get(name) or (None if name in deleted else errors.get((file.key, None)))
            if error is not None:
                codes[file] = self._code(file, error.get("Code") or "Unknown", error.get("Message") or "")
            elif name in deleted:
                hidden = file.version_id is None and bool(deleted[name].get("DeleteMarker"))
                codes[file] = ONLY_MARKED if hidden else ""
        for file, code in codes.items():
            if not code or code in ALREADY_GONE:
                self.gone.add(file)
            elif code not in THROTTLED:
                self.refused[file] = code
        return codes

    def _code(self, file: StoredFile, code: str, message: str) -> str:
        if code != "AccessDenied":
            return code
        locked = "object lock" in message.lower() or self._is_locked(file)
        return OBJECT_LOCKED if locked else code

    def _is_locked(self, file: StoredFile) -> bool:
        """Whether S3 says that the version is under object lock; not if it can't be asked."""
        if file.version_id is None or self._lock_lookups_left == 0:
            return False
        self._lock_lookups_left -= 1
        version = {"Bucket": file.bucket, "Key": object_keys.as_parameter(file.key), "VersionId": file.version_id}
        try:
            # Not a HEAD of the version, which would need the right to read letters.
            hold = self._requests.send(self._client.get_object_legal_hold, **version)
            if hold.get("LegalHold", {}).get("Status") == "ON":
                return True
        except (Stopped, BucketRefuses):
            pass  # it has none, or can't be asked
        try:
            return "Mode" in self._requests.send(self._client.get_object_retention, **version).get("Retention", {})
        except (Stopped, BucketRefuses):
            return False  # the file stays refused with S3's own code, and is tried again

    def _raise_if_all_refused(self, bucket: str) -> None:
        answers = self._answers[bucket]
        if len(answers) == 1 and answers.total() >= KEYS_THAT_SPEAK_FOR_A_BUCKET:
            (code,) = answers
            if code in ACCESS_ERRORS:
                raise BucketRefuses(code)


def _identifier(file: StoredFile) -> dict[str, str]:
    if file.version_id is None:
        return {"Key": file.key}
    return {"Key": file.key, "VersionId": file.version_id}


def _message(refusal: BucketRefuses) -> str:
    """What S3 said; it may tell a locked version from one that is not ours to delete."""
    cause = refusal.__cause__
    return str(cause.response.get("Error", {}).get("Message", "")) if isinstance(cause, ClientError) else ""
