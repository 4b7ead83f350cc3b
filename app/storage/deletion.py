"""Deletes files. A file is gone only if S3 said so of this very file; silence and doubt leave it."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from app.storage.client import Requests
from app.storage.errors import ACCESS_ERRORS, ALREADY_GONE, SLOW_DOWN, THROTTLED, BucketRefuses, Stopped
from app.storage.listing import StoredFile

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import DeleteObjectsOutputTypeDef

KEYS_PER_REQUEST = 1000
REQUESTS_AT_ONCE = 4
"""Once the first was answered well. S3 takes about 3,500 deleted keys a second."""
KEYS_THAT_SPEAK_FOR_A_BUCKET = 20
"""When so many keys of a bucket were answered, all with the same access error, the bucket refuses."""
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
                work.delete(bucket, _batches(of_bucket))
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


def _batches(files: list[StoredFile]) -> Iterator[list[StoredFile]]:
    for start in range(0, len(files), KEYS_PER_REQUEST):
        yield files[start : start + KEYS_PER_REQUEST]


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


_UnderWay = tuple[list[StoredFile], "Future[DeleteObjectsOutputTypeDef]"]
"""The files of a request that was sent, and its answer."""


class _Work:
    """Sends the requests and keeps what was answered, file by file."""

    def __init__(self, client: "S3Client", requests: Requests) -> None:
        self._client, self._requests = client, requests
        self._lock_lookups_left = LOCK_LOOKUPS
        self._answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.sent: set[StoredFile] = set()
        self.gone: set[StoredFile] = set()
        self.refused: dict[StoredFile, str] = {}

    def delete(self, bucket: str, batches: Iterable[list[StoredFile]]) -> None:
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
                    under_way.append((batch, pool.submit(self._send, bucket, batch)))
                while under_way:
                    self._finish(bucket, *under_way.popleft())
            finally:
                for batch, answer in under_way:
                    if answer.exception() is None:
                        self._read(batch, answer.result())

    def _send(self, bucket: str, batch: list[StoredFile]) -> "DeleteObjectsOutputTypeDef":
        return self._requests.send(
            self._client.delete_objects,
            Bucket=bucket,
            Delete={"Quiet": False, "Objects": [_identifier(file) for file in batch]},
        )

    def _finish(self, bucket: str, batch: list[StoredFile], answer: "Future[DeleteObjectsOutputTypeDef]") -> None:
        """Waits for a request's answer and reads it. Raises Stopped or BucketRefuses."""
        codes = self._read(batch, answer.result())
        self._answers[bucket].update("" if file in self.gone else codes[file] for file in codes)
        if any(code in THROTTLED for code in codes.values()):
            raise Stopped(SLOW_DOWN)
        self._raise_if_all_refused(bucket)

    def _read(self, batch: list[StoredFile], answer: "DeleteObjectsOutputTypeDef") -> dict[StoredFile, str]:
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
        version = {"Bucket": file.bucket, "Key": file.key, "VersionId": file.version_id}
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
