"""The least that the pipeline's role needs: of its own tables, and of a platform's as they are found to be.

For our own database deploy/postgres/retention_worker.sql says the same to psql; a test compares them.
"""

from dataclasses import dataclass

from app.config import Settings
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
    ("letter_looks", "SELECT INSERT DELETE", ()),
    ("accepted_missing", "SELECT INSERT DELETE", ()),
    ("intents", "SELECT INSERT DELETE", ()),
    ("deferred_letters", "SELECT INSERT UPDATE DELETE", ()),
    ("deferred_buckets", "SELECT INSERT UPDATE DELETE", ()),
    ("holds", "SELECT INSERT DELETE", ()),
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
)
"""Tables of the schema `retention`, privileges, and the columns that they are for; none: the whole table."""

OF_REVISIONS = "SELECT"
"""To say whether the migrations are at their newest; in an adopted database the table is one of `retention`, too."""

WRITTEN_BY_RECEIPTS = (STATUS, "updated_at")
"""Also what lets a step lock rows: FOR UPDATE needs UPDATE of a column."""
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
        if self.columns:
            of_columns = catalogue.tables[self.table].columns_to_update
            return [f"UPDATE ({column})" for column in self.columns if column not in of_columns]
        held = catalogue.held(self.schema, self.table)
        return [privilege for privilege in self.privileges if privilege not in held]


def on_platform(catalogue: Catalogue, settings: Settings) -> list[Grant]:
    """What is needed on the platform's tables that there are."""
    wanted: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
        (SERVICES, ("SELECT",), ()),
        (RETENTIONS, ("SELECT",), ()),
        # SELECT and INSERT are of whole tables: which columns move is derived, so that one that is added to both
        # tables needs no other grant.
        (NOTIFICATIONS, ("SELECT", "DELETE"), ()),
        (NOTIFICATIONS, ("UPDATE",), WRITTEN_BY_RECEIPTS),
        (HISTORY, ("SELECT", "INSERT", "UPDATE"), ()),
    ]
    found = [
        Grant(catalogue.tables[name].schema, name, privileges, columns)
        for name, privileges, columns in wanted
        if name in catalogue.tables
    ]
    # Which statuses there are: a receipt with one of the platform's own is taken, and any other word is refused.
    found += [
        Grant(key.referred_schema, key.referred, ("SELECT",))
        for key in catalogue.from_notifications
        if key.columns == (STATUS,)
    ]
    for plan in plans(catalogue, settings.tables_deleted_with):
        if plan.is_read:
            privileges = ("SELECT", "DELETE") if plan.action == "delete" else ("SELECT",)
            found.append(Grant(plan.key.schema, plan.key.table, privileges))
    return list(dict.fromkeys(found))


def schemas_of_platform(catalogue: Catalogue, settings: Settings) -> list[str]:
    """Schemas whose names statements use: those of these tables, and of the types that words are cast to."""
    types = [copy.to_type for copy in copies(catalogue) if copy.how in (How.BY_CAST, How.BY_TEXT)]
    for table, name in WORDS.values():
        column = catalogue.tables[table].columns.get(name) if table in catalogue.tables else None
        if column is not None and column.type.is_enum:
            types.append(column.type)
    named = [grant.schema for grant in on_platform(catalogue, settings)] + [type_.schema for type_ in types]
    return [schema for schema in dict.fromkeys(named) if schema != OF_EVERYBODY]


def lacking_on_platform(catalogue: Catalogue, settings: Settings) -> list[str]:
    """What the role that read the catalogue lacks on its tables: `SELECT ON notify.services`."""
    return [
        f"{privilege} ON {grant.schema}.{grant.table}"
        for grant in on_platform(catalogue, settings)
        for privilege in grant.lacking(catalogue)
    ]
