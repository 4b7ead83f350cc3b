"""A batch costs the same however large the table is: each rule reads its own index, in order, and stops at the limit.

A million sessions in a database of their own, with what the planner knows being fresh, nothing, or of a table that was
still empty. Buffers are counted, never time. Seen to fail: `read_in_order` left out
(without statistics the anonymous ones are sorted).
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, text

from app.config import psycopg2_url
from app.dao import user_sessions_dao
from tests.servers import migrated_database
from tests.session_rows import DAY, HOUR, NOW, create_sessions, create_user

BATCH = 500
ROWS = 1_000_000
# A row of a batch costs its page (locked, deleted) and a share of an index page; the rest is the way down the tree.
BUFFERS_OF_A_BATCH = 5 * BATCH + 100

Ask = Callable[[Connection], Any]


def expired(connection: Connection) -> Any:
    return user_sessions_dao.delete_expired(connection, NOW, None, BATCH)


def anonymous(connection: Connection) -> Any:
    return user_sessions_dao.delete_anonymous(connection, NOW, NOW - DAY, None, BATCH)


RULES = {expired: "ix_user_sessions_expires_at", anonymous: "ix_user_sessions_anonymous"}


def fresh(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE user_sessions"))


def none(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM pg_statistic WHERE starelid = 'user_sessions'::regclass"))
        connection.execute(
            text("UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE oid = 'user_sessions'::regclass")
        )


def of_an_empty_table(engine: Engine) -> None:
    """As if nothing had died yet when it was last looked at."""
    fresh(engine)
    none(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE before (LIKE user_sessions)"))
        connection.execute(
            text(
                "INSERT INTO before SELECT * FROM user_sessions "
                "WHERE user_id IS NOT NULL AND expires_at > :now LIMIT 999"
            ),
            {"now": NOW},
        )
        connection.execute(text("ANALYZE before"))
        connection.execute(
            text("UPDATE pg_statistic SET starelid = 'user_sessions'::regclass WHERE starelid = 'before'::regclass")
        )
        connection.execute(text("DROP TABLE before"))


def without_indexes(connection: Connection) -> list[str]:
    """Filling is faster so. Returns the definitions of those that a rule may read."""
    found = connection.execute(
        text("SELECT indexname, indexdef FROM pg_indexes WHERE indexname LIKE 'ix_user_sessions%'")
    ).all()
    connection.execute(text("DROP INDEX " + ", ".join(name for name, _ in found)))
    for constraint in ("token_hash_key", "user_id_fkey", "pkey"):
        connection.execute(text(f"ALTER TABLE user_sessions DROP CONSTRAINT user_sessions_{constraint}"))
    connection.execute(text("ALTER TABLE user_sessions SET (autovacuum_enabled = false)"))
    return [definition for _, definition in found]


@pytest.fixture(scope="module")
def large(environment: dict[str, str]) -> Iterator[Engine]:
    """Three rows in five are dead, by one rule or the other; the others live."""
    with migrated_database(environment["DATABASE_URL"]) as url:
        engine = create_engine(psycopg2_url(url), poolclass=NullPool)
        with engine.begin() as connection:
            if connection.execute(text("SHOW is_superuser")).scalar() != "on":
                pytest.skip("statistics can only be forgotten by a superuser")
            indexes = without_indexes(connection)
            user_id = create_user(connection)
            fifth = ROWS // 5
            create_sessions(connection, fifth, created_at=NOW - 10 * DAY, lasting=30 * DAY, user_id=user_id)
            create_sessions(connection, fifth, created_at=NOW - HOUR, lasting=DAY)
            create_sessions(connection, fifth, created_at=NOW - 30 * DAY, lasting=DAY, user_id=user_id)
            create_sessions(connection, fifth, created_at=NOW - 20 * DAY, lasting=DAY)
            create_sessions(connection, fifth, created_at=NOW - 15 * DAY, lasting=90 * DAY)
            for definition in indexes:
                connection.execute(text(definition))
        yield engine
        engine.dispose()


@pytest.fixture(params=[fresh, none, of_an_empty_table], scope="module", ids=lambda known: known.__name__)
def known(request: pytest.FixtureRequest, large: Engine) -> Engine:
    request.param(large)
    return large


def explained(connection: Connection, ask: Ask) -> list[dict[str, Any]]:
    """The nodes of the plan of what `ask` sends, executed once more as it was sent."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        sent.append((statement, values))

    savepoint = connection.begin_nested()
    event.listen(connection, "before_cursor_execute", note)
    ask(connection)
    event.remove(connection, "before_cursor_execute", note)
    savepoint.rollback()
    [(statement, values)] = [one for one in sent if "DELETE FROM user_sessions" in one[0]]
    explain = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) " + statement
    return nodes(connection.exec_driver_sql(explain, values).scalar_one()[0]["Plan"])


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


def how(found: list[dict[str, Any]]) -> set[str]:
    """How the table was read, but for the deletion itself, which is by position."""
    reads = [node for node in found if node.get("Relation Name") == "user_sessions"]
    kinds = {node.get("Index Name", node["Node Type"]) for node in reads}
    return kinds - {"ModifyTable", "Tid Scan"}


def buffers(found: list[dict[str, Any]]) -> int:
    return int(found[0]["Shared Hit Blocks"] + found[0]["Shared Read Blocks"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_batch_reads_its_own_index_in_order_and_stops(known, rule):
    with known.connect() as connection:
        user_sessions_dao.read_in_order(connection)
        found = explained(connection, rule)
    assert how(found) == {RULES[rule]}
    assert [node for node in found if node["Node Type"] == "Sort"] == []
    assert buffers(found) <= BUFFERS_OF_A_BATCH


def test_the_next_batch_does_not_walk_through_what_the_ones_before_it_removed(large):
    fresh(large)
    with large.connect() as connection:
        user_sessions_dao.read_in_order(connection)
        drained = user_sessions_dao.delete_expired(connection, NOW, None, ROWS // 5)
        assert drained.rows == ROWS // 5
        walking = buffers(explained(connection, expired))
        going_on = explained(connection, lambda own: user_sessions_dao.delete_expired(own, NOW, drained.up_to, BATCH))
    assert buffers(going_on) <= BUFFERS_OF_A_BATCH < walking
    assert drained.up_to == NOW - 29 * DAY + timedelta(milliseconds=ROWS // 5)
