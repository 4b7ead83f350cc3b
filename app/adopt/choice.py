"""The index that a step's choice reads: which one there is, and the one that would make it read less.

A step takes the oldest rows of one service and type. An index on (service_id, notification_type, created_at) has
exactly those, in order. One on (service_id, created_at) has the service's other types between them, which are read and
passed over. Anything else makes a step read rows of other services, or sort all that is overdue.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from app.adopt.findings import Finding, look, note, size, span
from app.dao import adoption_sql
from app.dao.catalogue import NOTIFICATIONS, Catalogue, Index, Table, Type

WANTED = ("service_id", "notification_type", "created_at")
NAME = "ix_notifications_service_id_notification_type_created_at"

# A B-tree's entry: its header and the pointer to it, its key aligned to eight bytes, pages filled to nine tenths.
ENTRY_BYTES, ALIGNED_BYTES, FILLED = 12, 8, 0.9
BYTES_OF_A_WORD = 16
BYTES_READ_A_SECOND, ROWS_SORTED_A_SECOND = 100_000_000, 300_000
"""Of an ordinary disk that has other work to do, and of one core."""
READS_OF_THE_TABLE = 2
"""Built beside live traffic, a table is read once to build and once more to see what came meanwhile."""


@dataclass(frozen=True)
class Choice:
    """The index that serves the choice best; None: there is none."""

    index: Index | None
    is_exact: bool
    """Whether it holds one service and type's rows with no others between them."""


@dataclass(frozen=True)
class Advice:
    """An index that would make the choice read less, and what it costs."""

    statement: str
    bytes: float | None
    """None: the table was never analysed, so that nothing is known of its size."""
    seconds: float | None


def best(table: Table) -> Choice:
    """Of the table's indexes, the one that the choice reads."""
    usable = [index for index in table.indexes if _usable(index)]
    for index in usable:
        if set(index.columns[:2]) == set(WANTED[:2]) and index.columns[2:3] == WANTED[2:]:
            return Choice(index, is_exact=True)
    for index in usable:
        if index.columns[:2] == ("service_id", "created_at"):
            return Choice(index, is_exact=False)
    return Choice(None, is_exact=False)


def _usable(index: Index) -> bool:
    """Read forwards: oldest first, which a descending column would give backwards, and that is as good for one column.

    Partial ones are left out: what they leave out would never be chosen.
    """
    return index.is_valid and index.method == "btree" and index.predicate is None


def advice(table: Table) -> Advice:
    """The statement that makes the wanted index, about how large it gets, and about how long it takes."""
    statement = adoption_sql.create_index(NAME, table.schema, table.name, WANTED)
    if table.rows is None:
        return Advice(statement, None, None)
    entry = sum(_width(table.columns[name].type) for name in WANTED)
    aligned = -(-entry // ALIGNED_BYTES) * ALIGNED_BYTES
    seconds = READS_OF_THE_TABLE * table.bytes / BYTES_READ_A_SECOND + table.rows / ROWS_SORTED_A_SECOND
    return Advice(statement, table.rows * (aligned + ENTRY_BYTES) / FILLED, seconds)


def _width(of: Type) -> int:
    return of.width if of.width > 0 else BYTES_OF_A_WORD


def check(catalogue: Catalogue) -> Iterator[Finding]:
    """Which index is used, which is missing, and which can't be used."""
    table = catalogue.tables.get(NOTIFICATIONS)
    if table is None or not set(WANTED) <= table.columns.keys():
        return
    for index in table.indexes:
        if not index.is_valid:
            yield look(
                f"{NOTIFICATIONS}.{index.name}",
                f"index {index.name} is not valid: making it beside live traffic failed; writers keep it up, and no "
                "query uses it",
                f"{adoption_sql.drop_index(table.schema, index.name)} and make it again",
            )
    choice = best(table)
    if choice.is_exact and choice.index is not None:
        yield note(NOTIFICATIONS, f"the choice uses index {_named(choice.index)}, which is the one for it")
        return
    if choice.index is not None:
        said = f"the choice uses index {_named(choice.index)}, which {_reads_more(catalogue)}"
    else:
        said = (
            "no index begins with (service_id, notification_type, created_at) or (service_id, created_at): each step "
            "would read other services' rows, or sort all that is overdue"
        )
    found = note if choice.index is not None else look
    yield found(NOTIFICATIONS, said, _spoken(table))


def _named(index: Index) -> str:
    return f"{index.name} ({', '.join(column or 'an expression' for column in index.columns)})"


def _reads_more(catalogue: Catalogue) -> str:
    shares = {name: share for name, share in catalogue.type_shares.items() if share > 0}
    between = "also has the service's rows of other types between"
    if not shares:
        return f"{between}; how many is not known before the table is analysed"
    listed = ", ".join(f"{1 / shares[name]:.1f} for each {name}" for name in sorted(shares))
    return f"{between}: about so many rows are read for one that is taken: {listed}"


def _spoken(table: Table) -> str:
    made = advice(table)
    if made.bytes is None or made.seconds is None:
        return f"its size is not known before {adoption_sql.analyze(table.schema, table.name)} {made.statement}"
    return (
        f"an index with exactly the rows that a step takes: about {size(made.bytes)}, made beside live traffic in "
        f"about {span(made.seconds)}, and for each row that is sent one entry more to write: {made.statement}"
    )
