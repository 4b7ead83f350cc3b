"""What a database's catalogue says of the tables that the pipeline works on. Facts alone, all immutable.

Names are as the catalogue has them, never quoted. Read by `catalogue_dao.read`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

NOTIFICATIONS, HISTORY = "notifications", "notification_history"
SERVICES, RETENTIONS = "services", "service_data_retention"
PLATFORM_TABLES = (NOTIFICATIONS, HISTORY, SERVICES, RETENTIONS)
WORKERS = "retention_worker"
"""The group of deploy/postgres; a login is made for each deployment."""
EVERYBODY = "public"
"""Stands for every role, also one that is yet to be made. None can have that name."""
STRINGS = ("text", "varchar", "bpchar", "name")
NUMBERS = ("int2", "int4", "int8", "numeric", "float4", "float8")
Casts = Mapping[tuple[tuple[str, str], tuple[str, str]], bool]
"""Between types, by their `base`: whether an INSERT makes the cast by itself."""
ORDINARY_TABLE, PARTITIONED_TABLE = "r", "p"
BY_AGE = "RANGE (created_at)"
"""The partition key of tables that the pipeline knows to handle."""


@dataclass(frozen=True)
class Type:
    """A column's type. Two types are the same if they are equal."""

    schema: str
    name: str
    """The base type's: of a domain, what it is made of."""
    formatted: str
    """As SQL writes it, with length or precision: `character varying(256)`."""
    labels: tuple[str, ...] | None = None
    """Of an enum, in its order; None for any other type."""
    width: int = -1
    """Bytes; -1 where values differ in length."""
    is_domain: bool = False

    @property
    def is_enum(self) -> bool:
        return self.labels is not None

    @property
    def base(self) -> tuple[str, str]:
        """Schema and name: what tells types apart, without their length or precision."""
        return self.schema, self.name


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    position: int
    type: Type
    nullable: bool
    default: str | None
    """The expression, as the catalogue prints it."""
    generated: bool
    """Computed by the database, so that nothing can be inserted."""
    always_identity: bool


@dataclass(frozen=True)
class Index:
    """An index of a table."""

    name: str
    columns: tuple[str | None, ...]
    """The key's, in order; None for an expression."""
    method: str
    predicate: str | None
    """Of a partial index."""
    is_primary: bool
    is_unique: bool
    is_valid: bool
    """Whether queries may use it: false after a CREATE INDEX CONCURRENTLY that failed."""

    @property
    def described(self) -> str:
        """Its name and what it is on."""
        return f"{self.name} ({', '.join(column or 'an expression' for column in self.columns)})"


@dataclass(frozen=True)
class Sight:
    """What policies leave of a table's rows for a role to see."""

    role: str
    hides_rows: bool
    """Whether they may hide some: it is not exempt, and has no policy that shows it every row, or a restrictive one."""
    is_restricted: bool
    """Whether a restrictive one may, so that no further policy helps."""


OF_NO_POLICIES = Sight(EVERYBODY, hides_rows=False, is_restricted=False)


@dataclass(frozen=True)
class RowSecurity:
    """Whether policies say which rows of a table a role sees, and what the roles see that matter."""

    is_on: bool = False
    ours: Sight = OF_NO_POLICIES
    """The current role's."""
    workers: tuple[Sight, ...] = (OF_NO_POLICIES,)
    """Of the logins in group WORKERS, or of the group itself; where there is none the current role's, or, where that is
    an owner's or a superuser's, EVERYBODY's.
    """


@dataclass(frozen=True)
class ForeignKey:
    """A constraint of `table` that refers to `referred`."""

    name: str
    schema: str
    """The table's."""
    table: str
    columns: tuple[str, ...]
    referred_schema: str
    referred: str
    referred_columns: tuple[str, ...]
    on_delete: str
    """`NO ACTION`, `RESTRICT`, `CASCADE`, `SET NULL` or `SET DEFAULT`."""
    rows: int | None
    """About how many rows the table has; None: never analysed."""
    bytes: int
    """About how large the table is, without its indexes; 0 of one that is partitioned."""
    is_indexed: bool
    """Whether an index begins with its columns, so that the rows of one that is deleted can be found."""
    is_validated: bool
    """Whether rows that were there before the constraint are known to keep it: false after a NOT VALID."""
    stopped_by: str | None = None
    """A table with a key without an action that points at rows of `table`, or at what goes with them by CASCADE: such a
    row can't be deleted while one of that table refers to it."""
    kind: str = ORDINARY_TABLE
    """The table's, as Table has it."""
    row_security: RowSecurity = RowSecurity()
    """Of `table`."""


@dataclass(frozen=True)
class Trigger:
    """A trigger that somebody made; those of constraints are not here."""

    name: str
    events: tuple[str, ...]
    """Of INSERT, UPDATE, DELETE and TRUNCATE."""
    is_enabled: bool


@dataclass(frozen=True)
class Rule:
    """A rule that rewrites statements, and is not off; that of a view is not here."""

    name: str
    event: str
    """`INSERT`, `UPDATE` or `DELETE`."""


@dataclass(frozen=True)
class Table:
    """A table as it was found."""

    schema: str
    name: str
    kind: str
    """pg_class.relkind: `r` is an ordinary table, `p` a partitioned one, `v` a view."""
    columns: Mapping[str, Column]
    """By name, in the table's order."""
    indexes: tuple[Index, ...]
    triggers: tuple[Trigger, ...]
    rules: tuple[Rule, ...]
    checks: frozenset[str]
    """CHECK constraints, as their definitions."""
    has_children: bool
    """Whether other tables inherit from it; partitions do."""
    row_security: RowSecurity
    rows: int | None
    """About how many; None: never analysed."""
    bytes: int
    """About how large, without its indexes; 0 if it is partitioned."""
    columns_to_select: frozenset[str]
    """Columns, the system's own included, that the current role may SELECT, be it with the whole table."""
    columns_to_update: frozenset[str]
    """Columns that the current role may UPDATE, be it by themselves or with the whole table."""
    partition_key: str | None = None
    """Of a partitioned table, how PostgreSQL prints it: `RANGE (created_at)`."""

    @property
    def is_partitioned_by_age(self) -> bool:
        """Whether each partition has the rows of a time."""
        return self.partition_key == BY_AGE

    def is_unique_by(self, *columns: str) -> bool:
        """Whether an index keeps rows apart by exactly these columns, in any order."""
        return any(
            index.is_unique and index.is_valid and index.predicate is None and set(index.columns) == set(columns)
            for index in self.indexes
        )

    @property
    def primary_key(self) -> tuple[str | None, ...]:
        """The columns of the primary key; empty if there is none."""
        return next((index.columns for index in self.indexes if index.is_primary), ())


@dataclass(frozen=True)
class Catalogue:
    """The platform's tables that there are, and what the database can do with their types."""

    database: str
    role: str
    where: str
    """Where the tables were looked for: a schema, or the search path."""
    server_version: int
    """As `server_version_num` says it: 140000 is PostgreSQL 14."""
    tables: Mapping[str, Table]
    referring: tuple[ForeignKey, ...] = ()
    """Foreign keys of any table that point at notifications."""
    from_history: tuple[ForeignKey, ...] = ()
    """Foreign keys of history."""
    from_notifications: tuple[ForeignKey, ...] = ()
    """Foreign keys of notifications."""
    held_on: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    """Of SELECT, INSERT, UPDATE and DELETE, what the role may do with these tables and those at the other end of the
    keys, by schema and name.
    """
    usable_schemas: frozenset[str] = frozenset()
    """Of the schemas of all these tables and of their types, those whose names the role may use."""
    casts: Casts = field(default_factory=lambda: MappingProxyType({}))
    """Between types of these tables."""
    statuses: tuple[str, ...] | None = None
    """What notification_status may be, from its enum or from the table that it refers to; None: not known."""
    types: tuple[str, ...] | None = None
    """The same of notification_type."""
    type_shares: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """The share of the rows that have a notification type, by type, as the planner knows it; empty: not known."""

    def held(self, schema: str, table: str) -> frozenset[str]:
        """What the role may do with a table as a whole."""
        return self.held_on.get((schema, table), frozenset())
