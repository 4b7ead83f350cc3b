"""PostgreSQL goes away, refuses, or makes wait."""

import time

import psycopg2
from psycopg2 import errors

from tests.faults.control import SLEEP
from tests.faults.run import Run, fault
from tests.faults.world import connect, query

OURS = "FROM pg_stat_activity WHERE application_name = 'retention' AND pid <> pg_backend_pid()"


@fault("PostgreSQL is restarted")
def restart(run: Run) -> None:
    mode = run.random.choice(("fast", "immediate"))

    def again() -> None:
        run.lab.stack.postgres.restart(mode)
        run.hits += 1

    run.inexact_files()
    run.soon(again, 1.2)


@fault("connections are cut")
def cut(run: Run) -> None:
    run.inexact_files()

    def terminate() -> None:
        run.hits += len(run.sql(f"SELECT pg_terminate_backend(pid) {OURS}"))

    for _ in range(4):
        run.soon(terminate, 2.0)


def trigger(run: Run, event: str, body: str, start: float, seconds: float) -> None:
    """A trigger of the laboratory's on a table, for a while."""

    def drop() -> None:
        run.sql("DROP FUNCTION IF EXISTS laboratory_fault() CASCADE")

    def create() -> None:
        run.sql(
            f"""
            CREATE OR REPLACE FUNCTION laboratory_fault() RETURNS trigger LANGUAGE plpgsql AS
            $body$ BEGIN {body} RETURN NULL; END $body$;
            CREATE OR REPLACE TRIGGER laboratory_fault {event} EXECUTE FUNCTION laboratory_fault()
            """
        )
        run.hits += 1

    run.inexact_files()
    if start:
        run.at(start, create)
    else:
        run.when_seeded(create)
    run.at(start + seconds, drop)
    run.undo(drop)


EVENTS = (
    "BEFORE INSERT ON notification_history FOR EACH STATEMENT",
    "AFTER DELETE ON notifications FOR EACH STATEMENT",
    "AFTER INSERT ON retention.steps FOR EACH STATEMENT",
    "AFTER INSERT ON retention.intents FOR EACH STATEMENT",
)


@fault("statements are cancelled")
def cancel(run: Run) -> None:
    def cancel_all() -> None:
        run.hits += len(run.sql(f"SELECT pg_cancel_backend(pid) {OURS} AND state = 'active'"))

    trigger(run, run.random.choice(EVENTS[:3]), "PERFORM pg_sleep(0.3);", 0, 2)
    for _ in range(12):
        run.soon(cancel_all, 1.5)


@fault("the disk is full")
def disk_full(run: Run) -> None:
    body = "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';"
    trigger(run, run.random.choice(EVENTS), body, run.random.choice((0, 0.4)), 2)


@fault("a statement times out")
def statement_timeout(run: Run) -> None:
    event = run.random.choice(EVENTS[:2])
    trigger(run, event, "PERFORM pg_sleep(30);", run.random.choice((0, 0.3)), 1.5)


@fault("the database is slow")
def slow(run: Run) -> None:
    trigger(run, run.random.choice(EVENTS), f"PERFORM pg_sleep({run.random.uniform(0.2, 0.9)});", 0, 2.5)


@fault("the database is read-only")
def read_only(run: Run) -> None:
    def set_to(value: str) -> None:
        run.sql(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        run.sql("SELECT pg_reload_conf()")

    def begin() -> None:
        set_to("on")
        run.hits += 1

    run.inexact_files()
    seconds = run.soon(begin, 0.8)
    run.at(seconds + 2, lambda: set_to("off"))
    run.undo(lambda: set_to("off"))


LOCKS = (
    "LOCK TABLE notification_history IN SHARE MODE",
    "LOCK TABLE notifications IN SHARE MODE",
    "LOCK TABLE retention.chains IN ACCESS EXCLUSIVE MODE",
    "LOCK TABLE retention.steps IN SHARE MODE",
    "SELECT FROM notifications ORDER BY random() LIMIT 40 FOR UPDATE",
    "SELECT FROM notifications FOR UPDATE",
    "SELECT FROM retention.chains FOR UPDATE",
    "SELECT FROM retention.chains FOR UPDATE",
    "SELECT FROM services FOR UPDATE",
)


@fault("a lock is held by someone else")
def lock_held(run: Run) -> None:
    statement = run.random.choice(LOCKS)
    start, seconds = run.random.choice((0.05, 0.2, 0.5)), run.random.uniform(2, 3)

    def hold() -> None:
        connection = connect(run.lab.database.url)
        try:
            query(connection, "BEGIN")
            query(connection, statement)
            run.hits += 1
            time.sleep(seconds)
            query(connection, "COMMIT")
        except psycopg2.OperationalError:
            """Another fault has cut the connection, or holds the lock itself."""
        finally:
            connection.close()

    run.inexact_files()
    run.at(start, lambda: run.beside(hold))


@fault("a deadlock")
def deadlock(run: Run) -> None:
    """Someone holds a row of history and wants its live row, which the step holds that wants the one in history."""

    def meet(id_: object) -> None:
        connection = connect(run.lab.database.url)
        try:
            query(connection, "BEGIN")
            query(connection, "SELECT FROM notification_history WHERE id = %s FOR UPDATE", (id_,))
            end = time.monotonic() + 4
            while time.monotonic() < end and not is_held(connection, id_):
                time.sleep(0.01)
            query(connection, "UPDATE notifications SET updated_at = updated_at WHERE id = %s", (id_,))
            query(connection, "COMMIT")
        except errors.DeadlockDetected:
            run.hits += 1
        except psycopg2.OperationalError:
            """Another fault has cut the connection, or holds the lock itself."""
        finally:
            connection.close()

    def start() -> None:
        for id_ in run.before.history.keys() & run.before.live.keys():
            run.beside(lambda id_=id_: meet(id_))

    run.inexact_files()
    for _ in range(6):
        run.arm("after the choice", f"{SLEEP} 0.3", run.random.randint(0, 1))
    run.when_seeded(start)


def is_held(connection: "psycopg2.extensions.connection", id_: object) -> bool:
    """Whether someone has locked the live row."""
    try:
        query(connection, "SAVEPOINT look")
        query(connection, "SELECT FROM notifications WHERE id = %s FOR UPDATE NOWAIT", (id_,))
    except errors.LockNotAvailable:
        query(connection, "ROLLBACK TO look")
        return True
    query(connection, "ROLLBACK TO look")
    return False
