"""Rows of history as Parquet: from the CSV that PostgreSQL sends, and back from a file.

The only module that imports pyarrow, and only when it is used: it comes with the extra `archive`.

Types are exact: uuid; timestamps of microseconds, without a zone where the column has none (its field's metadata says
that they are in UTC); numeric with its scale; an enum as a dictionary of its words. What Parquet has no type for
(jsonb, numeric without a scale, arrays) is the text that PostgreSQL would print. PostgreSQL's own types are in
the metadata.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from app.dao.archive_rows_dao import NUMERIC, is_binary
from app.dao.catalogue import Column

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_GROUP = 20_000
"""What a query reads, or leaves out by statistics, at once."""
BLOOM_FILTERS = ("id", "reference", "client_reference")
ORDER = ("service_id", "created_at", "id")
KEY = b"postgresql"
MOST_DIGITS = 38
UUID_BYTES = 16


class ExtraMissing(RuntimeError):
    """The extra `archive` is not installed: pip install 'notifications-retention[archive]'"""


class Sink(Protocol):
    """Where a file is written to."""

    def write(self, data: bytes) -> int: ...


def pyarrow() -> Any:
    """The package. Raises ExtraMissing."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        raise ExtraMissing(ExtraMissing.__doc__) from None
    return pyarrow


def fingerprint(columns: Sequence[Column]) -> str:
    """Tells one set of columns, with their types, from another."""
    return sha256(json.dumps([[column.name, column.type.formatted] for column in columns]).encode()).hexdigest()


def type_of(column: Column) -> Any:
    """The column's type in the file."""
    pa = pyarrow()
    if column.type.is_enum:
        return pa.dictionary(pa.int32(), pa.string())
    scaled = NUMERIC.fullmatch(column.type.formatted)
    if scaled and int(scaled[1]) <= MOST_DIGITS:
        return pa.decimal128(int(scaled[1]), int(scaled[2]))
    plain = {
        "uuid": pa.uuid(),
        "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", "UTC"),
        "date": pa.date32(),
        "bool": pa.bool_(),
        "int2": pa.int16(),
        "int4": pa.int32(),
        "int8": pa.int64(),
        "float4": pa.float32(),
        "float8": pa.float64(),
    }
    return plain[column.type.name] if is_binary(column) else pa.string()


def schema_of(columns: Sequence[Column], table: str) -> "pa.Schema":
    """The file's schema, PostgreSQL's types in its metadata."""
    pa = pyarrow()
    fields = []
    for column in columns:
        said = {"postgresql_type": column.type.formatted}
        if column.type.name == "timestamp":
            said["time_zone"] = "UTC, though the column does not say so"
        fields.append(pa.field(column.name, type_of(column), nullable=column.nullable, metadata=said))
    described = {
        "table": table,
        "columns": [
            {
                "name": column.name,
                "type": column.type.formatted,
                "words": column.type.labels,
                "nullable": column.nullable,
            }
            for column in columns
        ],
    }
    return pa.schema(fields, metadata={KEY: json.dumps(described).encode()})


def from_csv(data: bytes, schema: "pa.Schema") -> "pa.Table":
    """Rows that PostgreSQL sent: an unquoted nothing is NULL, a quoted one an empty text. Raises pa.ArrowInvalid."""
    pa = pyarrow()
    sent = {field.name: pa.string() if _comes_as_text(field.type) else field.type for field in schema}
    read = pa.csv.read_csv(
        BytesIO(data),
        read_options=pa.csv.ReadOptions(column_names=schema.names, use_threads=False),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=sent,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
            timestamp_parsers=[pa.csv.ISO8601],
        ),
    ).combine_chunks()
    arrays = [_as(column.combine_chunks(), field.type) for column, field in zip(read.columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)


def _comes_as_text(kind: Any) -> bool:
    pa = pyarrow()
    return kind == pa.uuid() or pa.types.is_dictionary(kind)


def _as(array: Any, kind: Any) -> Any:
    pa = pyarrow()
    if pa.types.is_dictionary(kind):
        return array.dictionary_encode().cast(kind)
    if kind != pa.uuid():
        return array
    count = len(array)
    written = "".join(pa.compute.fill_null(array, "00000000-0000-0000-0000-000000000000").to_pylist())
    values = pa.py_buffer(bytes.fromhex(written.replace("-", "")))
    is_there = pa.compute.is_valid(array).buffers()[1] if array.null_count else None
    storage = pa.Array.from_buffers(pa.binary(UUID_BYTES), count, [is_there, values])
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def write(pages: Iterable["pa.Table"], schema: "pa.Schema", sink: Sink) -> "pa.Table":
    """Write the pages as one file, sorted by service, time and id. Returns what was written."""
    pa = pyarrow()
    rows = in_order(pa.concat_tables(list(pages)), ORDER)
    names = [name for name in ORDER if name in schema.names]
    with pa.parquet.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        write_statistics=True,
        write_page_checksum=True,
        write_page_index=True,
        sorting_columns=[pa.parquet.SortingColumn(schema.get_field_index(name)) for name in names],
        bloom_filter_options={name: True for name in BLOOM_FILTERS if name in schema.names},
    ) as writer:
        writer.write_table(rows, row_group_size=ROWS_PER_GROUP)
    return rows


def in_order(rows: "pa.Table", by: Sequence[str]) -> "pa.Table":
    """The rows sorted by these columns."""
    pa = pyarrow()
    keys = pa.table({name: _storage(rows[name]) for name in by})
    order = pa.compute.sort_indices(keys, sort_keys=[(name, "ascending") for name in by])
    return rows.take(order)


def _storage(column: Any) -> Any:
    pa = pyarrow()
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole.storage if isinstance(whole, pa.ExtensionArray) else whole


def read(file: BinaryIO) -> "pa.Table":
    """All rows of a file. Raises pa.ArrowInvalid or OSError where it is none."""
    return pyarrow().parquet.ParquetFile(file, page_checksum_verification=True).read()


def described(rows: "pa.Table") -> Any:
    """What the file says of PostgreSQL's columns."""
    return json.loads((rows.schema.metadata or {})[KEY])


def without(rows: "pa.Table", column: str, values: Collection[bytes]) -> "pa.Table":
    """The rows that have none of these uuids in the column."""
    pa = pyarrow()
    storage = _storage(rows[column])
    listed = pa.array(sorted(values), pa.binary(UUID_BYTES))
    return rows.filter(pa.compute.invert(pa.compute.is_in(storage, value_set=listed)))


def only(rows: "pa.Table", column: str, values: Collection[bytes]) -> "pa.Table":
    """The rows that have one of these uuids in the column."""
    pa = pyarrow()
    listed = pa.array(sorted(values), pa.binary(UUID_BYTES))
    return rows.filter(pa.compute.is_in(_storage(rows[column]), value_set=listed))


def uuids(rows: "pa.Table", column: str) -> set[Any]:
    """The different uuids of a column, NULL left out."""
    pa = pyarrow()
    unique = pa.compute.unique(_storage(rows[column])).drop_null()
    return set(pa.ExtensionArray.from_storage(pa.uuid(), unique).to_pylist())


def bounds(times: Any) -> tuple[Any, Any]:
    """The first and the last of some times."""
    found = pyarrow().compute.min_max(times)
    return found["min"].as_py(), found["max"].as_py()
