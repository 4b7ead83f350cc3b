"""The least that the pipeline's role needs: of its own tables, and of a platform's as they are found to be.

For our own database deploy/postgres/retention_worker.sql says the same to psql; a test compares them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from app.config import Settings
from app.dao import adoption_sql
from app.dao.catalogue import HISTORY, NOTIFICATIONS, RETENTIONS, SERVICES, Catalogue
from app.dao.copying import How, copies
from app.dao.platform import STATUS, WORDS
from app.dao.referring import plans

OF_OWN_TABLES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("runs", "SELECT INSERT DELETE", ()),
    ("run_types", "SELECT INSERT UPDATE DELETE", ()),
    ("chains", "SELECT INSERT UPDATE DELETE", ()),
    ("steps", "SELECT INSERT DELETE", ()),
    ("steps", "UPDATE", ("counted",)),
    ("batch_failures", "SELECT INSERT DELETE", ()),
    ("letter_looks", "SELECT INSERT DELETE", ()),
    ("accepted_missing", "SELECT INSERT DELETE", ()),
    ("intents", "SELECT INSERT DELETE", ()),
    ("deferred_rows", "SELECT INSERT UPDATE DELETE", ()),
    ("deferred_buckets", "SELECT INSERT UPDATE DELETE", ()),
    ("holds", "SELECT INSERT DELETE", ()),
    ("turns", "SELECT", ()),
    ("turns", "UPDATE", ("lockable",)),
    ("folder_counts", "SELECT INSERT UPDATE DELETE", ()),
    ("indexed_folders", "SELECT INSERT UPDATE TRUNCATE", ()),
    ("indexed_files", "SELECT INSERT DELETE TRUNCATE", ()),
    ("audits", "SELECT INSERT UPDATE DELETE", ()),
    ("audit_findings", "SELECT INSERT", ()),
    ("audit_deletions", "SELECT INSERT UPDATE", ()),
    ("audited_letters", "SELECT INSERT TRUNCATE", ()),
    ("session_batches", "SELECT DELETE", ()),
    ("ops_actions", "SELECT INSERT DELETE", ()),
    ("totals", "SELECT INSERT UPDATE", ()),
    ("heartbeats", "SELECT INSERT UPDATE DELETE", ()),
    ("blocked_policies", "SELECT INSERT UPDATE DELETE", ()),
    ("policy_sweeps", "SELECT INSERT UPDATE DELETE", ()),
    ("policy_steps", "SELECT INSERT DELETE", ()),
    ("policy_steps", "UPDATE", ("id",)),
    ("policy_deferred", "SELECT INSERT UPDATE DELETE", ()),
)
"""Tables of the schema `retention`, privileges, and the columns that they are for; none: the whole table."""
OF_ARCHIVE: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("archives", "SELECT INSERT UPDATE", ()),
    ("archive_pages", "SELECT INSERT UPDATE DELETE", ()),
)
"""The same, where history is archived, as deploy/postgres/archive_worker.sql grants it."""

OF_ACCOUNTS: dict[str, str] = {
    "users": "SELECT UPDATE DELETE",
    "user_sessions": "SELECT INSERT UPDATE DELETE",
    "deferred_sessions": "SELECT INSERT UPDATE DELETE",
    "user_deletions": "SELECT UPDATE DELETE",
    "malformed_flags": "SELECT DELETE",
    "user_exports": "SELECT INSERT UPDATE DELETE",
    "retained_emails": "INSERT",
    "email_rate": "SELECT INSERT UPDATE",
    "retention.login_attempts": "SELECT INSERT UPDATE DELETE",
    "retention.session_batches": "INSERT",
    "retention.user_sweeps": "SELECT INSERT UPDATE DELETE",
    "retention.heartbeats": "SELECT INSERT UPDATE",
    "retention.holds": "SELECT",
    "retention.turns": "SELECT INSERT UPDATE",
    "retention.blocked_policies": "SELECT INSERT UPDATE DELETE",
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
"""What the clean-ups of accounts and sessions need, as deploy/postgres/accounts_worker.sql grants it."""
OF_SESSIONS = (
    *("user_sessions", "deferred_sessions", "retention.session_batches", "retention.holds", "retention.turns"),
    "retention.blocked_policies",
)
"""Of these tables, those that the clean-up of sessions needs."""

PRIVILEGES = "privileges"
"""What such a finding is about."""
OF_REVISIONS = "SELECT"
"""To say whether the migrations are at their newest; in an adopted database the table is one of `retention`, too."""

FIX_ACCOUNTS = "apply deploy/postgres/accounts_worker.sql again, as the tables' owner"
FIX = "apply deploy/postgres/retention_worker.sql again; in an adopted database, what flask retention adopt prints"

WRITTEN_BY_RECEIPTS = (STATUS, "updated_at")
"""Also what lets a step lock rows: FOR UPDATE needs UPDATE of a column."""
READ_OF_NOTIFICATIONS = frozenset(
    {
        *("id", "service_id", "notification_type", "key_type", "notification_status", "reference", "postage"),
        *("created_at", "updated_at", "sent_at"),
    }
)
"""What statements ask of a notification, beside what moves to history. Not who got it, nor what it said."""
OF_THE_SYSTEM = ("tableoid", "ctid", "xmin")
"""Where a row is, and who wrote it last: columns, too, for those who may not read the whole table."""
OF_EVERYBODY = "pg_catalog"


@dataclass(frozen=True)
class Grant:
    """Privileges on a table, or on some columns of it."""

    schema: str
    table: str
    privileges: tuple[str, ...]
    columns: tuple[str, ...] = ()

    def lacking(self, catalogue: Catalogue) -> list[str]:
        """Of these, what the role that read the catalogue has not: `SELECT`, `UPDATE (updated_at)`."""
        return [
            f"{one.privileges[0]} ({column})" if column else one.privileges[0]
            for one in self.left(catalogue)
            for column in one.columns or ("",)
        ]

    def left(self, catalogue: Catalogue) -> list["Grant"]:
        """The same as grants, one for each privilege."""
        if self.columns:
            table = catalogue.tables[self.table]
            of_columns = {"SELECT": table.columns_to_select, "UPDATE": table.columns_to_update}
            left = {
                privilege: tuple(column for column in self.columns if column not in of_columns[privilege])
                for privilege in self.privileges
            }
            return [
                Grant(self.schema, self.table, (privilege,), columns) for privilege, columns in left.items() if columns
            ]
        held = catalogue.held(self.schema, self.table)
        return [Grant(self.schema, self.table, (one,)) for one in self.privileges if one not in held]


def on_platform(catalogue: Catalogue, settings: Settings) -> list[Grant]:
    """What is granted on the platform's tables that there are."""
    # Which statuses there are: a receipt with one of the platform's own is taken, and any other word is refused.
    of_statuses = [
        Grant(key.referred_schema, key.referred, ("SELECT",))
        for key in catalogue.from_notifications
        if key.columns == (STATUS,)
    ]
    # Rows whose file was read back and compared.
    of_archive = [
        Grant(catalogue.tables[name].schema, name, ("DELETE",))
        for name in (HISTORY,)
        if settings.archives_history and name in catalogue.tables
    ]
    return list(dict.fromkeys(of_steps(catalogue, settings) + of_statuses + of_archive))


def of_steps(catalogue: Catalogue, settings: Settings) -> list[Grant]:
    """Without which no step is done."""
    wanted: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
        (SERVICES, ("SELECT",), ()),
        (RETENTIONS, ("SELECT",), ()),
        # By column: who got a notification, and what it said, is nobody's business here.
        (NOTIFICATIONS, ("SELECT",), _read_of_notifications(catalogue)),
        (NOTIFICATIONS, ("DELETE",), ()),
        (NOTIFICATIONS, ("UPDATE",), WRITTEN_BY_RECEIPTS),
        (HISTORY, ("SELECT", "INSERT", "UPDATE"), ()),
    ]
    found = [
        Grant(catalogue.tables[name].schema, name, privileges, columns)
        for name, privileges, columns in wanted
        if name in catalogue.tables
    ]
    for plan in plans(catalogue, settings.tables_deleted_with):
        if plan.is_read:
            privileges = ("SELECT", "DELETE") if plan.action == "delete" else ("SELECT",)
            found.append(Grant(plan.key.schema, plan.key.table, privileges))
    return found


def _read_of_notifications(catalogue: Catalogue) -> tuple[str, ...]:
    """What moves to history, what statements ask, and what other tables refer to. A column that is added to both tables
    needs its grant before it can move.
    """
    if NOTIFICATIONS not in catalogue.tables:
        return ()
    wanted = {copy.column for copy in copies(catalogue)} | READ_OF_NOTIFICATIONS
    wanted.update(column for key in catalogue.referring for column in key.referred_columns)
    own = (column for column in catalogue.tables[NOTIFICATIONS].columns if column in wanted)
    return (*OF_THE_SYSTEM, *own)


def schemas_of_platform(catalogue: Catalogue, settings: Settings) -> list[str]:
    """Schemas whose names statements use: those of these tables, and of the types that words are cast to."""
    types = [copy.to_type for copy in copies(catalogue) if copy.how in (How.BY_CAST, How.BY_TEXT)]
    for table, name in WORDS.values():
        column = catalogue.tables[table].columns.get(name) if table in catalogue.tables else None
        if column is not None and column.type.is_enum:
            types.append(column.type)
    named = [grant.schema for grant in on_platform(catalogue, settings)] + [type_.schema for type_ in types]
    return [schema for schema in dict.fromkeys(named) if schema != OF_EVERYBODY]


def statements(catalogue: Catalogue, grants: Iterable[Grant]) -> str:
    """What gives the role that read the catalogue what it has not of these."""
    left = [one for grant in grants for one in grant.left(catalogue)]
    return " ".join(
        adoption_sql.grant_on_table(one.privileges, one.schema, one.table, catalogue.role, one.columns) for one in left
    )


def pairs(of_tables: dict[str, str]) -> list[tuple[str, str]]:
    """Each table with each of its privileges."""
    return [(table, privilege) for table, listed in of_tables.items() for privilege in listed.split()]


def lacking(catalogue: Catalogue, grants: Iterable[Grant]) -> list[str]:
    """Of these, what the role that read the catalogue has not: `SELECT ON notify.services`."""
    return [
        f"{privilege} ON {grant.schema}.{grant.table}" for grant in grants for privilege in grant.lacking(catalogue)
    ]
