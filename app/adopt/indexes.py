"""What it costs to make an index beside live traffic: about how large it gets, how long it takes, what it adds."""

from collections.abc import Iterable
from dataclasses import dataclass

from app.dao import adoption_sql
from app.dao.catalogue import Type
from app.state.findings import size, span

# A B-tree's entry: its header and the pointer to it, its key aligned to eight bytes, pages filled to nine tenths.
ENTRY_BYTES, ALIGNED_BYTES, FILLED = 12, 8, 0.9
BYTES_OF_A_WORD = 16
BYTES_READ_A_SECOND, ROWS_SORTED_A_SECOND = 100_000_000, 300_000
"""Of an ordinary disk that has other work to do, and of one core."""
READS_OF_THE_TABLE = 2
"""Built beside live traffic, a table is read once to build and once more to see what came meanwhile."""


@dataclass(frozen=True)
class Advice:
    """An index that would make less be read, and what it costs."""

    schema: str
    table: str
    statement: str
    bytes: float | None
    """None: the table was never analysed, so that nothing is known of its size."""
    seconds: float | None
    is_by_partition: bool = False
    """The table is partitioned: `statement` says how, and begins with words."""

    @property
    def said(self) -> str:
        """The cost and the statement, for the end of a sentence."""
        if self.bytes is None or self.seconds is None:
            return f"its size is not known before {adoption_sql.analyze(self.schema, self.table)} {self.statement}"
        if self.is_by_partition:
            return f"about {size(self.bytes)}, {self.statement}"
        return (
            f"about {size(self.bytes)}, made beside live traffic in about {span(self.seconds)}, and one entry more to "
            f"write for each new row: {self.statement}"
        )


def advise(
    name: str,
    schema: str,
    table: str,
    columns: Iterable[tuple[str, Type]],
    rows: int | None,
    bytes_of_table: int,
    *,
    by_partition: bool = False,
) -> Advice:
    """The statement that makes an index of this name on these columns, and its cost where the rows are known."""
    types = dict(columns)
    make = adoption_sql.index_by_partition if by_partition else adoption_sql.create_index
    statement = make(name, schema, table, list(types))
    if rows is None:
        return Advice(schema, table, statement, None, None, by_partition)
    entry = sum(_width(of) for of in types.values())
    aligned = -(-entry // ALIGNED_BYTES) * ALIGNED_BYTES
    seconds = READS_OF_THE_TABLE * bytes_of_table / BYTES_READ_A_SECOND + rows / ROWS_SORTED_A_SECOND
    return Advice(schema, table, statement, rows * (aligned + ENTRY_BYTES) / FILLED, seconds, by_partition)


def _width(of: Type) -> int:
    return of.width if of.width > 0 else BYTES_OF_A_WORD
