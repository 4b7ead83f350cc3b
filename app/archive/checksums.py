"""What is compared of a file that was read back: a checksum a column and page, in the form that PostgreSQL makes them.

PostgreSQL's are in `app.dao.archive_rows_dao`. Here they are made from the file, whose values went another way: printed
as text, sent, parsed, written as Parquet, stored, read back.
"""

from array import array
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from app.archive.parquet import _storage, in_order, pyarrow
from app.dao.archive_rows_dao import is_binary
from app.dao.catalogue import Column

if TYPE_CHECKING:
    import pyarrow as pa

POSTGRESQL_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECONDS = int(POSTGRESQL_EPOCH.timestamp()) * 1_000_000
DAYS = (date(2000, 1, 1) - date(1970, 1, 1)).days
CODES = {1: "b", 2: "h", 4: "i", 8: "q"}
"""array's, by the width in bytes: what is swapped is bits, whatever they mean."""


def of_pages(rows: "pa.Table", columns: Sequence[Column], sizes: Sequence[int]) -> list[list[str]]:
    """The checksums of each page, whose rows are in the order of created_at and id, a list with one for each column."""
    ordered = in_order(rows, ("created_at", "id"))
    found, first = [], 0
    for size in sizes:
        page = ordered.slice(first, size)
        found.append([of_column(page[column.name].combine_chunks(), column) for column in columns])
        first += size
    return found


def of_column(values: Any, column: Column) -> str:
    """The checksum of some values of a column, in their order."""
    said = _of_binary(values, column) if is_binary(column) else _of_text(values)
    return sha256(said.encode()).hexdigest()


def _of_text(values: Any) -> str:
    pa = pyarrow()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    texts = [f"{value:f}" if isinstance(value, Decimal) else value for value in values.to_pylist()]
    lengths = ("N" if one is None else str(len(one)) for one in texts)
    return "".join(one for one in texts if one is not None) + "|" + ",".join(lengths)


def _of_binary(values: Any, column: Column) -> str:
    """Each value as PostgreSQL sends it, in hexadecimal; N for NULL."""
    pa = pyarrow()
    kind = column.type.name
    plain = _storage(values)
    if kind in ("timestamp", "timestamptz"):
        plain = pa.compute.subtract(plain.cast(pa.int64()), MICROSECONDS)
    elif kind == "date":
        plain = pa.compute.subtract(plain.cast(pa.int32()), DAYS)
    elif kind == "bool":
        plain = plain.cast(pa.int8())
    width = plain.type.bit_width // 8
    raw = plain.buffers()[1].slice(plain.offset * width, len(plain) * width).to_pybytes() if len(plain) else b""
    if kind != "uuid":
        swapped = array(CODES[width])
        swapped.frombytes(raw)
        swapped.byteswap()
        raw = swapped.tobytes()
    said = raw.hex()
    if not plain.null_count:
        return said
    digits = 2 * width
    there = pa.compute.is_valid(plain).to_pylist()
    return "".join(said[n * digits : (n + 1) * digits] if is_there else "N" for n, is_there in enumerate(there))
