"""A policy against the live catalogue. What does not fit is a problem, and stops that policy alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from app.dao import adoption_sql
from app.dao.catalogue import (
    HISTORY,
    NOTIFICATIONS,
    NUMBERS,
    RETENTIONS,
    SERVICES,
    STRINGS,
    Column,
    ForeignKey,
    Table,
    Type,
)
from app.dao.copying import Copy, How, how
from app.dao.policy_catalogue_dao import Found
from app.dao.policy_tables import OWN, Join, PolicyTable, Ref, Set, Test
from app.dao.referring import BY_ITSELF, Plan
from app.policies.forms import LONGEST_PATH, Change
from app.policies.reading import Policy, Problem

DEPTH = LONGEST_PATH
KEPT_BY_THE_PRODUCT = frozenset(
    {NOTIFICATIONS, HISTORY, SERVICES, RETENTIONS, "users", "user_sessions", "user_deletions", "user_exports"}
)
"""Tables that have an engine of their own, or that policies are measured by."""
TABLES = ("r", "p")
TIMES = ("timestamp", "timestamptz", "date")
WORDS = (*STRINGS, "uuid", *TIMES)
SERVICE, USER = "service_id", "user_id"
COMPARED = ("above", "below")


@dataclass(frozen=True)
class Grant:
    """A privilege that a policy needs on a table, on some of its columns or on the whole."""

    schema: str
    table: str
    privilege: str
    columns: tuple[str, ...] = ()

    def statement(self, role: str) -> str:
        """The GRANT for a role."""
        return adoption_sql.grant_on_table((self.privilege,), self.schema, self.table, role, self.columns)


@dataclass(frozen=True)
class Bound:
    """A policy that fits, or what is wrong with it, and the privileges that it needs."""

    policy: Policy
    table: PolicyTable | None
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    grants: tuple[Grant, ...] = ()
    lacking: tuple[Grant, ...] = ()


class _Wrong(Exception):
    """One thing that is wrong, and the keys that say it."""

    def __init__(self, sentence: str, *keys: str) -> None:
        super().__init__(sentence)
        self.keys = keys


def bind(policy: Policy, found: Found, scan_rows: int) -> Bound:
    """Look everything up that the policy names. `scan_rows`: the most that a table without an index may have."""
    return _Binding(policy, found, scan_rows).run()


@dataclass
class _Binding:
    policy: Policy
    found: Found
    scan_rows: int
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    joins: dict[tuple[str, str], Join] = field(default_factory=dict)
    _table: Table | None = None

    def run(self) -> Bound:
        self._table = self._attempt(self._own_table)
        if self._table is None:
            return Bound(self.policy, None, tuple(self.problems))
        entry = self.policy.entry
        key = self._attempt(self._key)
        age = tuple(filter(None, (self._attempt(self._age, path) for path in entry.age)))
        tests = tuple(filter(None, (self._attempt(self._test, path) for path in entry.where)))
        service = self._attempt(self._scope, "service", entry.service, SERVICE)
        user = self._attempt(self._scope, "user", entry.user, USER)
        of_type = self._attempt(self._type_of_retention, service)
        file = self._attempt(self._file, key) if entry.files else ()
        target, copied = self._attempt(self._moving) or (None, ())
        changed = tuple(filter(None, (self._attempt(self._set, name, key) for name in entry.then.redact or ())))
        referring = self._attempt(self._referring) or ()
        if len(age) == len(entry.age):
            self._attempt(self._index, age)
        self._attempt(self._sees_every_row)
        if self.problems or key is None:
            return Bound(self.policy, None, tuple(self.problems), tuple(self.notes))
        bound = PolicyTable(
            policy=self.policy.name,
            table=self.table,
            key=key,
            age=age,
            joins=tuple(self.joins.values()),
            tests=tests,
            service=service,
            user=user,
            type_of_retention=of_type,
            services=self.found.table(SERVICES) if of_type else None,
            retentions=self.found.table(RETENTIONS) if of_type else None,
            file=file or (),
            target=target,
            copied=copied,
            changed=changed,
            referring=referring,
            own=self.found.own,
        )
        grants = tuple(dict.fromkeys(_grants(bound)))
        lacking = tuple(grant for grant in grants if not self._is_held(grant))
        if lacking:
            listed = ", ".join(f"{one.privilege} on {one.table}" for one in lacking)
            self.problems.append(self.policy.problem(f"role {self.found.role} may not {listed}", "table"))
        return Bound(self.policy, bound, tuple(self.problems), tuple(self.notes), grants, lacking)

    @property
    def table(self) -> Table:
        if self._table is None:
            raise LookupError("the table was not found")
        return self._table

    def _attempt(self, look: Callable[..., Any], *given: Any) -> Any:
        try:
            return look(*given)
        except _Wrong as wrong:
            self.problems.append(self.policy.problem(str(wrong), *wrong.keys))
            return None

    def _own_table(self) -> Table:
        named = self.policy.entry.table
        table = self.found.table(named)
        if table is None:
            raise _Wrong(f"there is no table {named}", "table")
        if table.name in KEPT_BY_THE_PRODUCT and table.schema != self.found.own:
            raise _Wrong(f"{named} is not for policies: the product keeps it by itself", "table")
        if table.kind not in TABLES:
            raise _Wrong(f"{named} is a view or a foreign table", "table")
        if table.schema not in self.found.usable_schemas:
            raise _Wrong(f"role {self.found.role} may not use the names in schema {table.schema}", "table")
        return table

    def _key(self) -> Column:
        columns = self.table.primary_key
        if len(columns) != 1 or columns[0] is None:
            raise _Wrong(f"{self.table.name} needs a primary key of one column", "table")
        return self.table.columns[columns[0]]

    def _ref(self, path: str, *keys: str) -> Ref:
        """The column at the end of a path, by foreign keys of one column each."""
        *ahead, last = path.split(".")
        table, alias = self.table, OWN
        for step in ahead:
            self._column(table, step, *keys)
            leading = self.found.keys_of(table, step)
            if len(leading) != 1:
                said = "no foreign key" if not leading else "more than one foreign key"
                raise _Wrong(f"column {step} of {table.name} has {said}, so that {path} leads nowhere", *keys)
            table, alias = self._joined(alias, table, leading[0], path, *keys)
        return Ref(alias, table, self._column(table, last, *keys))

    def _joined(self, before: str, table: Table, key: ForeignKey, path: str, *keys: str) -> tuple[Table, str]:
        referred = self.found.of(key.referred_schema, key.referred)
        if referred is None:
            raise _Wrong(f"table {key.referred}, which {path} leads to, can't be read", *keys)
        if referred == self.table:
            raise _Wrong(f"{path} comes back to {table.name}", *keys)
        made = self.joins.get((before, key.name))
        if made is None:
            alias = f"p{len(self.joins) + 1}"
            made = Join(before, alias, referred, key.columns, key.referred_columns)
            self.joins[before, key.name] = made
        return referred, made.alias

    def _column(self, table: Table, column: str, *keys: str) -> Column:
        if column not in table.columns:
            raise _Wrong(f"there is no column {column} in {table.name}", *keys)
        return table.columns[column]

    def _age(self, path: str) -> Ref:
        ref = self._ref(path, "age")
        if ref.column.type.name not in TIMES:
            raise _Wrong(f"{path} is of type {ref.column.type.formatted}; an age is a timestamp or a date", "age")
        return ref

    def _index(self, age: tuple[Ref, ...]) -> None:
        """An index that gives rows in the order of their age, or few enough rows to do without."""
        if len({ref.column.type.base for ref in age}) > 1:
            raise _Wrong("its columns must have one type", "age")
        first = age[0].column.name if len(age) == 1 and age[0].is_own else None
        begins = [index.columns[0] for index in self.table.indexes if index.is_valid and index.method == "btree"]
        if first in begins if first else (None in begins):
            return
        if self.table.rows is not None and self.table.rows <= self.scan_rows:
            return
        count = "was never analysed" if self.table.rows is None else f"has about {self.table.rows:,} rows"
        fix = "ANALYZE it, or make an index on that" if self.table.rows is None else "make an index on that"
        if all(ref.is_own for ref in age):
            columns = [ref.column.name for ref in age]
            fix += ": " + _create_index(self.table, columns)
        raise _Wrong(f"{self.table.name} {count} and no index for {' and '.join(self.policy.entry.age)}; {fix}", "age")

    def _test(self, path: str) -> Test:
        condition = self.policy.entry.where[path]
        ref = self._ref(path, "where", path)
        kind = ref.column.type
        values = condition.values
        if condition.operator != "is_set":
            if condition.operator in COMPARED and kind.name not in (*NUMBERS, *TIMES):
                raise _Wrong(f"{path} is of type {kind.formatted}, which has no order here", "where", path)
            for value in values:
                self._fits(kind, value, path, "where", path)
        return Test(ref, condition.operator, values)

    def _fits(self, kind: Type, value: Any, path: str, *keys: str) -> None:
        wanted = _mismatch(kind, value)
        if wanted:
            raise _Wrong(f"{path} is of type {kind.formatted}; {wanted}", *keys)

    def _scope(self, key: str, path: str | None, usual: str) -> Ref | None:
        if path is None and usual in self.table.columns:
            path = usual
        if path is None:
            if key == "service":
                self.notes.append("no path to a service: holds on services do not reach it")
            return None
        ref = self._ref(path, key)
        if ref.column.type.name != "uuid":
            raise _Wrong(f"{path} is of type {ref.column.type.formatted}; a {key}'s id is a uuid", key)
        return ref

    def _type_of_retention(self, service: Ref | None) -> Ref | str | None:
        retention = self.policy.entry.retention
        at = ("retention", "of_service_for")
        if retention.of_service_for is None:
            return None
        if service is None:
            raise _Wrong("it needs a path to the service: set `service`", *at)
        for name in (SERVICES, RETENTIONS):
            if self.found.table(name) is None:
                raise _Wrong(f"there is no table {name}", *at)
        if retention.type_for_all:
            return retention.type_for_all
        ref = self._ref(retention.of_service_for, *at)
        if ref.column.type.name not in STRINGS and not ref.column.type.is_enum:
            raise _Wrong(f"{retention.of_service_for} is of type {ref.column.type.formatted}, and no word", *at)
        return ref

    def _file(self, key: Column | None) -> tuple[tuple[str, Ref | None], ...]:
        files = self.policy.entry.files
        parts = files.parts if files else ()
        found = tuple((text, self._ref(path, "files", "key") if path else None) for text, path in parts)
        unique = {(key.name,)} if key else set()
        unique |= {index.columns for index in self.table.indexes if index.is_unique and index.predicate is None}  # type: ignore[misc]
        if not any(ref and ref.is_own and (ref.column.name,) in unique for _, ref in found):
            raise _Wrong("it must name the table's key, or two rows could share an object", "files", "key")
        return found

    def _moving(self) -> tuple[Table, tuple[Copy, ...]] | None:
        named = self.policy.entry.then.move
        if named is None:
            return None
        at = ("then", "move")
        target = self.found.table(named)
        if target is None or target.kind not in TABLES:
            raise _Wrong(f"there is no table {named}", *at)
        if target == self.table:
            raise _Wrong("a row can't move to the table that it is in", *at)
        if target.name in KEPT_BY_THE_PRODUCT:
            raise _Wrong(f"{named} is not for policies: the product keeps it by itself", *at)
        copied = []
        for name, column in target.columns.items():
            source = self.table.columns.get(name)
            if source is None and not (column.nullable or column.default or column.generated):
                raise _Wrong(f"{named} needs a value for {name}, which {self.table.name} lacks", *at)
            if source is None or column.generated:
                continue
            way = how(source.type, column.type, self.found.casts)
            if way is How.NOT_AT_ALL:
                raise _Wrong(f"{name} can't be copied: the two tables have different types for it", *at)
            copied.append(Copy(name, way, source.type, column.type))
        if self._key_name not in {copy.column for copy in copied}:
            raise _Wrong(f"{named} has no column {self._key_name}, by which a row could be found again", *at)
        return target, tuple(copied)

    @property
    def _key_name(self) -> str | None:
        return next(iter(self.table.primary_key), None)

    def _set(self, name: str, key: Column | None) -> Set:
        change: Change = (self.policy.entry.then.redact or {})[name]
        at = ("then", "redact", name)
        column = self._column(self.table, name, *at)
        if column.generated or column == key:
            raise _Wrong(f"{name} can't be set", *at)
        if change.kind == "null" and not column.nullable:
            raise _Wrong(f"{name} may not be NULL", *at)
        if change.kind == "now" and column.type.name not in TIMES:
            raise _Wrong(f"{name} is of type {column.type.formatted}, and no time", *at)
        if change.kind == "to":
            self._fits(column.type, change.to, name, *at)
        if change.kind == "column":
            source = self._column(self.table, str(change.column), *at)
            if source.type.base != column.type.base:
                raise _Wrong(f"{change.column} has another type than {name}", *at)
        return Set(column, change.kind, change.column if change.kind == "column" else change.to)

    def _referring(self) -> tuple[Plan, ...]:
        """Keys whose rows keep a row. Rows that would go along unnamed are refused."""
        if self.policy.entry.then.redact:
            return ()
        taken = set(self.policy.entry.takes)
        plans = []
        for key in self.found.keys_to(self.table):
            action = BY_ITSELF.get(key.on_delete)
            if action is None or (action == "cascade" and key.stopped_by):
                plans.append(Plan(key, "defer"))
            elif action == "cascade" and not taken & {key.table, f"{key.schema}.{key.table}"}:
                raise _Wrong(f"rows of {key.table} would go with it by CASCADE; name the table in `takes`", "takes")
        known = {name for key in self.found.keys_to(self.table) for name in (key.table, f"{key.schema}.{key.table}")}
        if unknown := sorted(taken - known):
            raise _Wrong(f"no foreign key of {unknown[0]} points at {self.table.name}", "takes")
        return tuple(plans)

    def _sees_every_row(self) -> None:
        if self.table.row_security.ours.hides_rows:
            raise _Wrong(f"row security may hide rows of {self.table.name} from role {self.found.role}", "table")

    def _is_held(self, grant: Grant) -> bool:
        if grant.privilege in self.found.held_on.get((grant.schema, grant.table), frozenset()):
            return True
        table = self.found.of(grant.schema, grant.table)
        by_column = {"SELECT": table.columns_to_select, "UPDATE": table.columns_to_update} if table else {}
        return bool(grant.columns) and set(grant.columns) <= by_column.get(grant.privilege, frozenset())


def _create_index(table: Table, columns: list[str]) -> str:
    if len(columns) == 1:
        return adoption_sql.create_index_like(adoption_sql.quoted(table.schema, table.name), columns)
    return f"one on the expression coalesce({', '.join(columns)})"


def _mismatch(kind: Type, value: Any) -> str | None:
    """What a value of the type must be, where this is none."""
    if kind.labels is not None:
        return None if value in kind.labels else f"it is one of {', '.join(kind.labels)}"
    if kind.name == "bool":
        return None if isinstance(value, bool) else "give true or false"
    if kind.name in NUMBERS:
        return None if isinstance(value, int | float) and not isinstance(value, bool) else "give a number"
    if kind.name not in WORDS:
        return "only `set` is for such a column"
    if not isinstance(value, str):
        return "give a text"
    forms: dict[str, Callable[[str], object]] = {"uuid": UUID, "date": date.fromisoformat}
    forms |= dict.fromkeys(("timestamp", "timestamptz"), datetime.fromisoformat)
    try:
        forms.get(kind.name, str)(value)
    except ValueError:
        return f"the text is no {kind.formatted}"
    return None


def _grants(of: PolicyTable) -> Iterator[Grant]:
    """The least that the policy's statements need."""
    here = (of.table.schema, of.table.name)
    own = [test.ref for test in of.tests] + list(of.age) + [ref for _, ref in of.file if ref]
    own += [ref for ref in (of.service, of.user, of.type_of_retention) if isinstance(ref, Ref)]
    read: dict[tuple[str, str], set[str]] = {here: {of.key.name}}
    for ref in own:
        read.setdefault((ref.table.schema, ref.table.name), set()).add(ref.column.name)
    tables = {OWN: of.table} | {join.alias: join.table for join in of.joins}
    for join in of.joins:
        before = tables[join.before]
        read.setdefault((before.schema, before.name), set()).update(join.columns)
        read.setdefault((join.table.schema, join.table.name), set()).update(join.referred)
    read[here] |= {copy.column for copy in of.copied}
    read[here] |= {str(change.value) for change in of.changed if change.kind == "column"}
    for plan in of.referring:
        if (plan.key.schema, plan.key.table) == here:
            read[here] |= set(plan.key.columns)
        else:
            yield Grant(plan.key.schema, plan.key.table, "SELECT")
        read[here] |= set(plan.key.referred_columns)
    for (schema, table), columns in read.items():
        yield Grant(schema, table, "SELECT", tuple(sorted(columns)))
    if of.changed:
        yield Grant(*here, "UPDATE", tuple(sorted(change.column.name for change in of.changed)))
    else:
        # To lock a row takes UPDATE of one of its columns.
        yield Grant(*here, "UPDATE", (of.key.name,))
        yield Grant(*here, "DELETE")
    if of.target is not None:
        yield Grant(of.target.schema, of.target.name, "INSERT")
    for read_whole in (of.services, of.retentions):
        if read_whole is not None:
            yield Grant(read_whole.schema, read_whole.name, "SELECT")
