"""What is said of tables that point at notifications: the plan for each, and what makes it slow or impossible."""

from collections.abc import Iterator

from app.adopt import indexes
from app.config import Settings
from app.dao import adoption_sql
from app.dao.catalogue import NOTIFICATIONS, PARTITIONED_TABLE, Catalogue, ForeignKey, Table
from app.dao.referring import Plan, plans
from app.state import hidden
from app.state.findings import Finding, amount, look, note


def check(catalogue: Catalogue, settings: Settings) -> Iterator[Finding]:
    """Each referring table with its plan, and what makes the plan slow or impossible."""
    planned = plans(catalogue, settings.tables_deleted_with)
    for key in {plan.table: plan.key for plan in planned if plan.is_read}.values():
        yield from hidden.check(key.schema, key.table, key.row_security, hidden.OF_REFERRING)
    for plan in planned:
        yield _planned(plan)
        if not plan.key.is_indexed:
            yield look(
                _about(plan.key),
                f"no index of table {plan.key.table} begins with {', '.join(plan.key.columns)}: for every notification "
                "that is deleted the whole table is read",
                f"an index that finds its rows: {_index(plan.key, catalogue.tables[NOTIFICATIONS])}",
            )
    for table in sorted(settings.referring_rows.keys() - {key.table for key in catalogue.referring}):
        yield look(
            table,
            f"REFERRING_ROWS names table {table}, which does not point at notifications",
            "take it out, or fix its name",
        )


def _index(key: ForeignKey, live: Table) -> str:
    """What makes it, and its cost; the columns are of the types that they refer to."""
    name = f"ix_{key.table}_{'_'.join(key.columns)}"
    if key.kind == PARTITIONED_TABLE:
        return adoption_sql.index_by_partition(name, key.schema, key.table, key.columns)
    types = (live.columns[referred].type for referred in key.referred_columns)
    of_columns = zip(key.columns, types, strict=True)
    return indexes.advise(name, key.schema, key.table, of_columns, key.rows, key.bytes).said


def _planned(plan: Plan) -> Finding:
    key, about = plan.key, _about(plan.key)
    has = "nobody knows how many rows" if key.rows is None else f"about {amount(key.rows, 'row')}"
    points = f"{key.table}.{', '.join(key.columns)} points at notifications (ON DELETE {key.on_delete}; {has})"
    if plan.action == "defer" and key.stopped_by:
        return look(
            about,
            f"{points}: table {key.stopped_by} stops its rows, or what goes with them, from being deleted, so that a "
            "notification that such a row refers to stays, is deferred and reported; the others go",
            f"give the foreign key of {key.stopped_by} an action, or delete those rows beforehand",
        )
    if plan.action == "cascade":
        return look(
            about,
            f"{points}: its rows go with their notification, also for those that move to history",
            "see that nothing else needs them; to keep them, change the foreign key",
        )
    if plan.action == "set":
        return look(
            about,
            f"{points}: its rows stay and lose their reference, also for notifications that move to history",
            "see that nothing needs the reference once a notification is in history",
        )
    if plan.action == "delete":
        return note(about, f"{points}: its rows are deleted in the step that removes their notification")
    return look(
        about,
        f"{points}: a notification that such a row refers to stays, is deferred and reported; the others go",
        f'to delete the rows with their notification: REFERRING_ROWS={{"{key.table}": "delete"}}',
    )


def _about(key: ForeignKey) -> str:
    return f"{key.table}.{key.name}"
