"""DuckDB on archived files: it skips row groups by statistics and bloom filters, and so reads little of a file.

The only module that imports duckdb and fsspec, and only when it is used: they come with the extra `archive`. DuckDB
gets its bytes from here, range by range, so that they are counted, and that nothing but S3 and these files is reached.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from io import RawIOBase
from threading import Lock, local
from typing import Any

from app.archive.files import stored
from app.archive.parquet import ExtraMissing
from app.archive.tools import Tools
from app.dao.archives_dao import Archive
from app.storage import archived
from app.storage.client import Deadline

PROTOCOL = "archived"
LEAST_BYTES_A_REQUEST = 64 * 1024
"""A request costs more than so many bytes; what is read next to each other is read at once."""
SECONDS = 600.0
FILES = "SELECT * FROM read_parquet(?, union_by_name = true, filename = true, hive_partitioning = false) WHERE "
SEARCHES = {
    "id": FILES + "id = ?",
    "reference": FILES + "reference = ?",
    "client_reference": FILES + "client_reference = ?",
}
"""By the column that files are searched by."""


class _Place(local):
    """Where a thread is in a file, and what it has read there."""

    at = 0
    first = 0
    kept = b""


class _File(RawIOBase):
    """A file of the bucket, read in ranges.

    DuckDB gives one file to several threads, each of which says where to read before it reads: the place is a thread's.
    """

    def __init__(self, reader: "_Reader", archive: Archive) -> None:
        self._reader, self._archive = reader, archive
        self._place = _Place()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place.at = offset + (0, self._place.at, self._archive.bytes or 0)[whence]
        return self._place.at

    def read(self, size: int = -1) -> bytes:
        place = self._place
        left = max((self._archive.bytes or 0) - place.at, 0)
        count = left if size < 0 else min(size, left)
        if not place.first <= place.at <= place.at + count <= place.first + len(place.kept):
            wanted = min(max(count, LEAST_BYTES_A_REQUEST), left)
            place.first, place.kept = place.at, self._reader.range(self._archive, place.at, wanted)
        begin = place.at - place.first
        place.at += count
        return place.kept[begin : begin + count]


class _Reader:
    """Reads ranges of the files, and counts."""

    def __init__(self, tools: Tools, archives: Mapping[str, Archive]) -> None:
        self.archives = archives
        self.bytes = self.requests = 0
        self._lock = Lock()
        self._tools, self._sender = tools, tools.requests(Deadline(SECONDS))

    def range(self, archive: Archive, first: int, count: int) -> bytes:
        if not count:
            return b""
        read = archived.read_range(self._tools.s3, self._sender, stored(archive), first, count)
        with self._lock:
            self.bytes += len(read)
            self.requests += 1
        return read


def search(
    tools: Tools, archives: Sequence[Archive], column: str, value: object
) -> tuple[list[tuple[Archive, dict[str, Any]]], int]:
    """Rows of the files whose column has this value, each with its file, the newest file last; and how many bytes were
    read. Raises ExtraMissing; KeyError for a column that is not searched by.
    """
    statement = SEARCHES[column]
    if not archives:
        return [], 0
    try:
        import duckdb
    except ImportError:
        raise ExtraMissing(ExtraMissing.__doc__) from None
    by_name = {f"{archive.id}.parquet": archive for archive in archives}
    reader = _Reader(tools, by_name)
    connection = duckdb.connect(
        config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "threads": "2"}
    )
    connection.register_filesystem(_file_system(reader))
    found = connection.execute(statement, [[f"{PROTOCOL}://{name}" for name in by_name], value])
    names = [described[0] for described in found.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    connection.close()
    of_files = [(by_name[row.pop("filename").rpartition("/")[2]], row) for row in rows]
    return sorted(of_files, key=lambda one: one[0].id), reader.bytes


def _file_system(reader: _Reader) -> Any:
    from fsspec.spec import AbstractFileSystem

    class FileSystem(AbstractFileSystem):
        protocol = PROTOCOL
        cachable = False

        def _archive(self, path: str) -> Archive:
            return reader.archives[path.rpartition("/")[2]]

        def open(self, path: str, *_: Any, **__: Any) -> Any:
            return _File(reader, self._archive(path))

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            return {"name": path, "size": self._archive(path).bytes, "type": "file"}

        def ls(self, path: str, *_: Any, **__: Any) -> list[dict[str, Any]]:
            return [self.info(path)]

        def glob(self, path: str, **_: Any) -> list[str]:
            return [path]

        def exists(self, path: str, **_: Any) -> bool:
            return path.rpartition("/")[2] in reader.archives

        isfile = exists

        def modified(self, path: str) -> datetime:
            return self._archive(path).finished_at or datetime(1970, 1, 1, tzinfo=UTC)

        created = modified

    return FileSystem()
