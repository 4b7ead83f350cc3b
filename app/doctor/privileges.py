"""What the database's role needs, table by table, and what it must not have.

The same as deploy/postgres/*.sql, whose files are not everywhere where the product is; a test compares them.
"""

from app.retention.privileges import OF_OWN_TABLES, OF_REVISIONS

OF_PLATFORM_TABLES: dict[str, str] = {
    "services": "SELECT",
    "service_data_retention": "SELECT",
    "notifications": "SELECT DELETE UPDATE",
    "notification_history": "SELECT INSERT UPDATE",
}


def nightly(*, adopted: bool) -> dict[str, str]:
    """What the nightly pipeline needs in our own database; in one that was adopted, of its own tables alone."""
    wanted = {"retention.alembic_version": OF_REVISIONS}
    if not adopted:
        wanted = {**OF_PLATFORM_TABLES, "alembic_version": OF_REVISIONS}
    for table, listed, _columns in OF_OWN_TABLES:
        name = f"retention.{table}"
        wanted[name] = f"{wanted[name]} {listed}" if name in wanted else listed
    return wanted


OF_ACCOUNTS: dict[str, str] = {
    "users": "SELECT UPDATE DELETE",
    "user_sessions": "SELECT INSERT UPDATE DELETE",
    "user_deletions": "SELECT UPDATE DELETE",
    "malformed_flags": "SELECT DELETE",
    "user_exports": "SELECT INSERT UPDATE DELETE",
    "retained_emails": "INSERT",
    "email_rate": "SELECT INSERT UPDATE",
    "retention.login_attempts": "SELECT INSERT UPDATE DELETE",
    "retention.session_batches": "INSERT",
    "retention.heartbeats": "SELECT INSERT UPDATE",
    "user_to_service": "SELECT DELETE",
    "user_to_organisation": "SELECT DELETE",
    "user_folder_permissions": "SELECT DELETE",
    "permissions": "SELECT DELETE",
    "templates": "SELECT UPDATE",
    "templates_history": "SELECT UPDATE",
    "jobs": "SELECT UPDATE",
    "api_keys": "SELECT UPDATE",
    "api_keys_history": "SELECT UPDATE",
    "invited_users": "SELECT DELETE",
    "invited_organisation_users": "SELECT DELETE",
    "verify_codes": "SELECT DELETE",
    "webauthn_credential": "SELECT DELETE",
    "login_events": "SELECT DELETE",
    "events": "SELECT UPDATE",
    "service_contact_list": "SELECT UPDATE",
    "service_callback_api": "SELECT UPDATE",
    "support_tickets": "SELECT DELETE UPDATE",
    "feature_requests": "SELECT UPDATE",
    "feature_votes": "SELECT DELETE UPDATE",
    "leader_boards": "SELECT UPDATE",
}
TOO_MUCH: dict[str, str] = {
    "notifications": "INSERT UPDATE TRUNCATE",
    "notification_history": "DELETE TRUNCATE",
    "services": "INSERT UPDATE DELETE TRUNCATE",
    "service_data_retention": "INSERT UPDATE DELETE TRUNCATE",
    "users": "TRUNCATE",
    "user_deletions": "TRUNCATE",
}
"""Of the whole table: that notifications' status may be updated is no UPDATE of all of it."""


def pairs(of_tables: dict[str, str]) -> list[tuple[str, str]]:
    """Each table with each of its privileges."""
    return [(table, privilege) for table, listed in of_tables.items() for privilege in listed.split()]
