"""What the database's role needs, table by table, and what it must not have.

The same as deploy/postgres/*.sql, whose files are not everywhere where the product is; a test compares them.
"""

from app.state.privileges import OF_ARCHIVE, OF_OWN_TABLES, OF_REVISIONS

OF_PLATFORM_TABLES: dict[str, str] = {
    "services": "SELECT",
    "service_data_retention": "SELECT",
    "notifications": "SELECT DELETE UPDATE",
    "notification_history": "SELECT INSERT UPDATE",
}


def nightly(*, adopted: bool, archives: bool = False) -> dict[str, str]:
    """What the nightly pipeline needs in our own database; in one that was adopted, of its own tables alone."""
    wanted = {"retention.alembic_version": OF_REVISIONS}
    if not adopted:
        wanted = {**OF_PLATFORM_TABLES, "alembic_version": OF_REVISIONS}
    for table, listed, _columns in OF_OWN_TABLES + (OF_ARCHIVE if archives else ()):
        name = f"retention.{table}"
        wanted[name] = f"{wanted[name]} {listed}" if name in wanted else listed
    if archives and not adopted:
        wanted["notification_history"] += " DELETE"
    return wanted


def too_much(*, archives: bool) -> dict[str, str]:
    """What the role must not have: to delete history only where it is archived."""
    return {**TOO_MUCH, "notification_history": "TRUNCATE"} if archives else TOO_MUCH


TOO_MUCH: dict[str, str] = {
    "notifications": "SELECT INSERT UPDATE TRUNCATE",
    "notification_history": "DELETE TRUNCATE",
    "services": "INSERT UPDATE DELETE TRUNCATE",
    "service_data_retention": "INSERT UPDATE DELETE TRUNCATE",
    "users": "UPDATE TRUNCATE",
    "user_deletions": "TRUNCATE",
}
"""Of the whole table: that notifications' status may be updated is no UPDATE of all of it, and that what moves may be
read is no SELECT.
"""
