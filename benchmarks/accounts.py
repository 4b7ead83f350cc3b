"""One account with a million rows in 60 tables: how long others wait, against one statement that cascades.

Both delete the same rows, on copies of one database; ours through the code that a worker's task runs, with the plan
widened to these tables; the mark, which locks the user's row and signs the user out, is part of it. Meanwhile the same
user's log-ins, receipts (a change of a row of his) and new rows go on, each in a thread of its own, and note how long
each of their transactions took.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4

import psycopg2
from sqlalchemy import event

from app import clock
from app.accounts.requests import mark_for_deletion
from app.accounts.steps import Outcome, Work, work
from app.dao.deletion_plan import PLAN, Action, Child
from app.dao.user_deletions_dao import DELETIONS
from app.db import db
from app.engine import leases
from app.storage.client import Deadline
from benchmarks import connections
from benchmarks.bench import Bench
from benchmarks.measures import Measure, shown
from benchmarks.product import product
from dev.product import migrate

ROWS = 1_000_000
TABLES = 60
OTHER_USERS = 50
"""They have a fifth as many rows together."""
SHARES = (0.25, 0.5, 1.0)
SECONDS_BETWEEN_PROBES = 0.002
BUDGET_SECONDS = 3600
USER = UUID("00000000-0000-4000-8000-0000000000aa")
KINDS = ("a log-in", "a receipt", "a new row")

NAMES = [f"child_{number:02}" for number in range(TABLES)]
# Of six tables, four lose their rows, one gives them to the ghost user, one forgets whose they were.
ACTIONS = [Action.DELETE] * 4 + [Action.REASSIGN, Action.SET_NULL]
WIDE_PLAN = (
    *(Child(name, "user_id", action, "measured") for name, action in zip(NAMES, cycle(ACTIONS), strict=False)),
    *PLAN,
)

MAKE_USERS = """
INSERT INTO users (id, name, email_address, state, created_at)
SELECT id, 'Someone', id || '@example.org', 'active', now() FROM unnest(%(ids)s::uuid[]) AS id
"""
MAKE_TABLE = "CREATE TABLE {0} (id bigserial PRIMARY KEY, user_id uuid, at timestamptz NOT NULL, payload text NOT NULL)"
FILL = """
INSERT INTO {0} (user_id, at, payload)
SELECT (%(ids)s::uuid[])[1 + i %% (1 + cardinality(%(ids)s::uuid[]))], now(), repeat('p', 60 + (i %% 40)::int)
FROM generate_series(1, %(others)s::bigint) AS i
"""
FILL_OWN = """
INSERT INTO {0} (user_id, at, payload)
SELECT %(user)s, now(), repeat('p', 60 + (i %% 40)::int) FROM generate_series(1, %(rows)s::bigint) AS i
"""
INDEX = "CREATE INDEX ON {0} (user_id); ALTER TABLE {0} ADD CONSTRAINT {0}_fkey FOREIGN KEY (user_id) REFERENCES users"
CASCADE = """
ALTER TABLE {0} DROP CONSTRAINT {0}_fkey,
    ADD CONSTRAINT {0}_fkey FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE
"""
LOG_IN = "UPDATE users SET last_visit_at = now() WHERE id = (SELECT id FROM users WHERE email_address = %(address)s)"
RECEIPT = "UPDATE {0} SET at = now() WHERE id = %(id)s"
NEW_ROW = "INSERT INTO {0} (user_id, at, payload) VALUES (%(user)s, now(), 'new')"
SOME_IDS = "SELECT id FROM {0} WHERE user_id = %(user)s ORDER BY md5(id::text) LIMIT 50"


@dataclass
class Seen:
    """Seconds: of the whole, of the longest transaction, and of the longest wait of each kind of other work."""

    seconds: float = 0.0
    longest_transaction: float = 0.0
    waits: dict[str, float] = field(default_factory=dict)

    @property
    def longest_wait(self) -> float:
        return max(self.waits.values())


def run(bench: Bench) -> list[Measure]:
    """Fill once, delete on copies."""
    rows = int(ROWS * bench.scale)
    bench.say(f"filling {TABLES} tables with {rows:,} rows of one user's")
    _fill(bench, "accounts_whole", rows)
    cascading, ours = _cascade(bench), _ours(bench, "accounts_whole")
    smaller = {1.0: ours.seconds}
    for share in SHARES[:-1]:
        name = f"accounts_{share * 100:.0f}"
        _fill(bench, name, int(rows * share))
        smaller[share] = _ours(bench, name).seconds
    _show(bench, cascading, ours, smaller, rows)
    return [
        Measure("longest wait of ours over the cascade's", ours.longest_wait / cascading.longest_wait, at_most=0.2),
        Measure(
            "longest transaction of ours over the cascade's",
            ours.longest_transaction / cascading.longest_transaction,
            at_most=0.2,
        ),
        Measure("cost of a row at 1 over the cost at 0.25", smaller[1.0] / (smaller[0.25] / 0.25), at_most=1.3),
        Measure("longest wait, ours", ours.longest_wait * 1000, unit="ms"),
        Measure("longest wait, cascade", cascading.longest_wait * 1000, unit="ms"),
    ]


def _fill(bench: Bench, name: str, rows: int) -> None:
    url = bench.empty_database(name)
    migrate(url)
    others = [str(uuid4()) for _ in range(OTHER_USERS)]
    with connections.owner(url) as connection:
        connections.run(connection, MAKE_USERS, {"ids": [str(USER), *others]})
        for table in NAMES:
            connections.run(connection, MAKE_TABLE.format(table))
            own = rows // TABLES
            connections.run(connection, FILL_OWN.format(table), {"user": str(USER), "rows": own})
            connections.run(connection, FILL.format(table), {"ids": others, "others": own // 5})
            connections.run(connection, INDEX.format(table))
        connections.run(connection, "VACUUM (ANALYZE)")


@contextmanager
def _copied(bench: Bench, name: str) -> Iterator[str]:
    copy = f"{name}_{uuid4().hex[:6]}"
    url = bench.server.create_database(copy, template=name)
    try:
        yield url
    finally:
        bench.drop_database(copy)


def _cascade(bench: Bench) -> Seen:
    """What people start with: every foreign key cascades, and one statement deletes the user."""
    seen = Seen()
    with _copied(bench, "accounts_whole") as url:
        with connections.owner(url) as connection:
            for table in NAMES:
                connections.run(connection, CASCADE.format(table))
        bench.checkpoint()
        with _others_at_work(url, seen), connections.owner(url) as connection:
            began = perf_counter()
            connections.run(connection, "DELETE FROM users WHERE id = %(user)s", {"user": str(USER)})
            seen.seconds = seen.longest_transaction = perf_counter() - began
    return seen


def _ours(bench: Bench, name: str) -> Seen:
    """Mark, and do what a worker's task does until the account is gone."""
    seen = Seen()
    with _copied(bench, name) as url, product(url, s3_bucket_user_files="") as app, app.app_context():
        bench.checkpoint()
        with _others_at_work(url, seen), _transactions_timed(seen):
            began = perf_counter()
            with db.transaction() as connection:
                mark_for_deletion(connection, USER, by="operator", by_id=None, now=clock.now(), plan=WIDE_PLAN)
            _delete_account(app.extensions["settings"])
            seen.seconds = perf_counter() - began
        _require_nothing_left(url)
    return seen


def _delete_account(settings: Any) -> None:
    now = clock.now()
    with db.transaction() as connection:
        taken = leases.acquire(
            connection, DELETIONS, USER, now=now, seconds=settings.lease_seconds, retry=leases.BackOff(1)
        )
    if taken is None:
        raise RuntimeError("somebody else deletes the account")
    if work(Work(settings, USER, taken[0], Deadline(BUDGET_SECONDS), plan=WIDE_PLAN)) is not Outcome.COMPLETE:
        raise RuntimeError("the account was not deleted")


def _require_nothing_left(url: str) -> None:
    with connections.owner(url) as connection:
        left = " UNION ALL ".join(f"SELECT FROM {table} WHERE user_id = %(user)s" for table in NAMES)
        if connections.scalar(connection, f"SELECT count(*) FROM ({left}) AS l", {"user": str(USER)}):
            raise RuntimeError("rows of the user are left")


@contextmanager
def _transactions_timed(seen: Seen) -> Iterator[None]:
    began: dict[int, float] = {}

    def begin(connection: Any) -> None:
        began[id(connection)] = perf_counter()

    def end(connection: Any) -> None:
        seen.longest_transaction = max(seen.longest_transaction, perf_counter() - began[id(connection)])

    listeners = (("begin", begin), ("commit", end), ("rollback", end))
    for name, listener in listeners:
        event.listen(db.engine, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners:
            event.remove(db.engine, name, listener)


@contextmanager
def _others_at_work(url: str, seen: Seen) -> Iterator[None]:
    """The user's log-ins, receipts and new rows, for as long as the block runs and there is a user."""
    with connections.owner(url) as connection, connection.cursor() as cursor:
        receipts = []
        for table in NAMES:
            cursor.execute(SOME_IDS.format(table), {"user": str(USER)})
            receipts += [(RECEIPT.format(table), {"id": row[0]}) for row in cursor.fetchall()]
    # Each time another table: whichever is being cleaned is soon met.
    receipts = [receipts[at] for start in range(50) for at in range(start, len(receipts), 50)]
    work_of = {
        "a log-in": [(LOG_IN, {"address": f"{USER}@example.org"})],
        "a receipt": receipts,
        "a new row": [(NEW_ROW.format(table), {"user": str(USER)}) for table in NAMES],
    }
    stop = threading.Event()
    threads = [threading.Thread(target=_probe, args=(url, kind, work_of[kind], seen, stop)) for kind in KINDS]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _probe(url: str, kind: str, statements: list[tuple[str, Any]], seen: Seen, stop: threading.Event) -> None:
    seen.waits[kind] = 0.0
    with connections.owner(url) as connection:
        for statement, values in cycle(statements):
            began = perf_counter()
            try:
                connections.run(connection, statement, values)
            except psycopg2.errors.ForeignKeyViolation:  # the user is gone
                stop.set()
            seen.waits[kind] = max(seen.waits[kind], perf_counter() - began)
            if stop.wait(SECONDS_BETWEEN_PROBES):
                return


def _show(bench: Bench, cascading: Seen, ours: Seen, smaller: dict[float, float], rows: int) -> None:
    def line(name: str, of_cascade: float, of_ours: float) -> tuple[str, ...]:
        ratio = shown(of_ours / of_cascade)
        return (name, shown(of_cascade * 1000, "ms"), shown(of_ours * 1000, "ms"), ratio)

    lines = [line(f"longest wait of {kind}", cascading.waits[kind], ours.waits[kind]) for kind in KINDS]
    lines.append(line("longest transaction", cascading.longest_transaction, ours.longest_transaction))
    lines.append(line("the whole", cascading.seconds, ours.seconds))
    bench.show(f"{rows:,} rows in {TABLES} tables", ("", "cascade", "ours", "ours / cascade"), lines)
    bench.show(
        "cost of ours",
        ("rows", "seconds", "µs a row"),
        [
            (f"{rows * share:,.0f}", shown(smaller[share]), shown(smaller[share] / (rows * share) * 1e6))
            for share in SHARES
        ],
    )
