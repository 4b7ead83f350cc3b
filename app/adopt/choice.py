"""The indexes that a step reads: which there are, and those that would make it read less.

A step takes the oldest rows of one service and type. An index on (service_id, notification_type, created_at) has
exactly those, in order. One on (service_id, created_at) has the service's other types between them, which are read and
passed over. Anything else makes a step read rows of other services, or sort all that is overdue. Where letters have
files, a step of letters also looks for others of the same reference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.adopt import indexes
from app.adopt.indexes import Advice
from app.config import Settings
from app.dao import adoption_sql
from app.dao.catalogue import NOTIFICATIONS, PARTITIONED_TABLE, Catalogue, Index, Table
from app.state.findings import Finding, look, note

WANTED = ("service_id", "notification_type", "created_at")
NAME = "ix_notifications_service_id_notification_type_created_at"
REFERENCE, NAME_OF_REFERENCES = "reference", "ix_notifications_reference"


@dataclass(frozen=True)
class Choice:
    """The index that serves the choice best; None: there is none."""

    index: Index | None
    is_exact: bool
    """Whether it holds one service and type's rows with no others between them."""


def best(table: Table) -> Choice:
    """Of the table's indexes, the one that the choice reads."""
    usable = _usable_of(table)
    for index in usable:
        if set(index.columns[:2]) == set(WANTED[:2]) and index.columns[2:3] == WANTED[2:]:
            return Choice(index, is_exact=True)
    for index in usable:
        if index.columns[:2] == ("service_id", "created_at"):
            return Choice(index, is_exact=False)
    return Choice(None, is_exact=False)


def _usable_of(table: Table) -> list[Index]:
    """Read forwards: oldest first, which a descending column would give backwards, and that is as good for one column.

    Partial ones are left out: what they leave out would never be chosen.
    """
    return [index for index in table.indexes if index.is_valid and index.method == "btree" and index.predicate is None]


def advice(table: Table, name: str = NAME, columns: Sequence[str] = WANTED) -> Advice:
    """An index of the table, the wanted one for the choice: the statement that makes it, and about what it costs."""
    of_columns = ((column, table.columns[column].type) for column in columns)
    by_partition = table.kind == PARTITIONED_TABLE
    return indexes.advise(
        name, table.schema, table.name, of_columns, table.rows, table.bytes, by_partition=by_partition
    )


def check(catalogue: Catalogue, settings: Settings) -> Iterator[Finding]:
    """Which index is used, which is missing, and which can't be used."""
    table = catalogue.tables.get(NOTIFICATIONS)
    if table is None:
        return
    yield from _not_valid(table)
    if set(WANTED) <= table.columns.keys():
        yield from _chosen_by(table, catalogue)
    if settings.letters_have_files:
        yield from _references(table)


def _not_valid(table: Table) -> Iterator[Finding]:
    for index in table.indexes:
        if not index.is_valid:
            yield look(
                f"{NOTIFICATIONS}.{index.name}",
                f"index {index.name} is not valid: making it beside live traffic failed; writers keep it up, and no "
                "query uses it",
                f"{adoption_sql.drop_index(table.schema, index.name)} and make it again",
            )


def _chosen_by(table: Table, catalogue: Catalogue) -> Iterator[Finding]:
    choice = best(table)
    if choice.is_exact and choice.index is not None:
        yield note(NOTIFICATIONS, f"the choice uses index {choice.index.described}, which is the one for it")
        return
    if choice.index is not None:
        said = f"the choice uses index {choice.index.described}, which {_reads_more(catalogue)}"
    else:
        said = (
            "no index begins with (service_id, notification_type, created_at) or (service_id, created_at): each step "
            "would read other services' rows, or sort all that is overdue"
        )
    found = note if choice.index is not None else look
    yield found(NOTIFICATIONS, said, f"an index with exactly the rows that a step takes: {advice(table).said}")


def _reads_more(catalogue: Catalogue) -> str:
    shares = {name: share for name, share in catalogue.type_shares.items() if share > 0}
    between = "also has the service's rows of other types between"
    if not shares:
        return f"{between}; how many is not known before the table is analysed"
    listed = ", ".join(f"{1 / shares[name]:.1f} for each {name}" for name in sorted(shares))
    return f"{between}: about so many rows are read for one that is taken: {listed}"


def _references(table: Table) -> Iterator[Finding]:
    if REFERENCE not in table.columns or any(index.columns[:1] == (REFERENCE,) for index in _usable_of(table)):
        return
    yield look(
        f"{NOTIFICATIONS}.{REFERENCE}",
        f"no index of table {NOTIFICATIONS} begins with {REFERENCE}: to see whether other letters share a file, each "
        "step of letters would read the whole table",
        f"an index that finds them: {advice(table, NAME_OF_REFERENCES, (REFERENCE,)).said}",
    )
