"""The user's own files in an export: streamed from their bucket into the archive, as many as fit.

A file that is left out is counted, with why, and named in the archive's manifest; the email says that there are some.
"""

import zipfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from uuid import UUID

from app.accounts.tools import tools
from app.storage.client import Deadline, Requests, worst_seconds_per_request
from app.storage.download import StoredObject, objects, pieces
from app.storage.errors import ACCESS_ERRORS, OUT_OF_TIME, BucketRefuses, Stopped

MOST_FILES = 10_000
"""The archive's directory is in memory until its end: so many entries are some MB of it."""
MOST_NAMES = 1000
"""Of files left out, so many are named in the manifest, and the others counted."""
SHARE_OF_TIME = 0.8
"""Of what is left when the tables are written. The rest is for the archive's end and its last part."""
BYTES_PER_MEGABYTE = 1_000_000
TOO_LARGE, TOO_MANY, NO_TIME, CUT = "no room", "too many files", "no time", "no time: only its beginning is here"


@dataclass
class Files:
    """What became of the user's files. `included` and `bytes` are those in the archive."""

    included: int = 0
    bytes: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """How many, by why."""
    named: list[dict[str, object]] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    """Entry of the archive to the file's own name, where that could not be an entry's."""
    is_complete: bool = True
    """Whether all files were looked at: those behind the last one that was are not counted."""

    @property
    def manifest(self) -> dict[str, object]:
        return {
            "included": self.included,
            "bytes": self.bytes,
            "left_out": dict(self.left_out),
            "left_out_by_name": self.named,
            "all_were_looked_at": self.is_complete,
            "renamed": self.renamed,
        }

    def leave_out(self, name: str, size: int, why: str) -> None:
        self.left_out[why] += 1
        if len(self.named) < MOST_NAMES:
            self.named.append({"name": name, "bytes": size, "why": why})


def write(archive: zipfile.ZipFile, user_id: UUID, now: datetime, deadline: Deadline) -> Files | None:
    """Write the user's files into the archive; None where users have none. Raises Stopped and BucketRefuses."""
    settings = tools().settings
    if settings.s3_bucket_user_files is None:
        return None
    writer = _Writer(archive, settings.s3_bucket_user_files, f"users/{user_id}/", now, deadline)
    room = settings.export_files_megabytes * BYTES_PER_MEGABYTE
    return writer.write(room)


class _Writer:
    def __init__(self, archive: zipfile.ZipFile, bucket: str, prefix: str, now: datetime, deadline: Deadline) -> None:
        self._archive, self._bucket, self._prefix, self._now = archive, bucket, prefix, now
        self._client = tools().s3
        seconds = SHARE_OF_TIME * max(0, deadline.remaining())
        self._requests = Requests(Deadline(seconds), worst_seconds_per_request(self._client))
        self._files = Files()

    def write(self, room: int) -> Files:
        files = self._files
        try:
            for stored in objects(self._client, self._requests, self._bucket, self._prefix):
                name = stored.key.removeprefix(self._prefix)
                if files.included >= MOST_FILES:
                    files.leave_out(name, stored.bytes, TOO_MANY)
                elif stored.bytes > room - files.bytes:
                    files.leave_out(name, stored.bytes, TOO_LARGE)
                else:
                    self._write(stored, name)
        except Stopped as stopped:
            if stopped.reason != OUT_OF_TIME:
                raise
            files.is_complete = False
            if CUT not in files.left_out:
                files.left_out[NO_TIME] += 1  # at least
        return files

    def _write(self, stored: StoredObject, name: str) -> None:
        """A file that has gone meanwhile, or can't be read by itself, is left out; a bucket that refuses ends it."""
        files = self._files
        try:
            content = pieces(self._client, self._requests, self._bucket, stored.key)
            first = next(content, b"")
        except BucketRefuses as refusal:
            if refusal.code in ACCESS_ERRORS:
                raise
            files.leave_out(name, stored.bytes, refusal.code)
            return
        entry = zipfile.ZipInfo(self._entry(name), self._now.timetuple()[:6])
        entry.compress_type = zipfile.ZIP_DEFLATED
        files.included += 1
        with self._archive.open(entry, "w", force_zip64=True) as file:
            file.write(first)
            files.bytes += len(first)
            try:
                for piece in content:
                    file.write(piece)
                    files.bytes += len(piece)
            except Stopped as stopped:
                if stopped.reason != OUT_OF_TIME:
                    raise
                files.included -= 1
                files.leave_out(name, stored.bytes, CUT)
                raise

    def _entry(self, name: str) -> str:
        """A name that no program unpacks elsewhere than below `files`, and that no other entry has."""
        parts = [part for part in PurePosixPath(name.replace("\\", "_")).parts if part not in ("/", "..")]
        safe = "files/" + ("".join(c if c.isprintable() else "_" for c in "/".join(parts)) or "_")
        entry, number = safe, 1
        while entry in self._archive.NameToInfo:
            number += 1
            entry = f"{safe} ({number})"
        if entry != f"files/{name}":
            self._files.renamed[entry] = name
        return entry
