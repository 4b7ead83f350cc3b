"""The plan of a deletion, compared with the database's own catalogue.

Seen to fail: a foreign key left out of the plan; a unique constraint left out; ctid as the key of a column without a
foreign key; and the test with a table that nobody planned fails by itself what the first one asserts.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, text

from app.accounts.plan import PLAN, Action, Child

FOREIGN_KEYS = text(
    """
    SELECT k.conrelid::regclass::text || '.' || a.attname, k.confdeltype
    FROM pg_constraint AS k JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
    WHERE k.contype = 'f' AND k.confrelid = 'users'::regclass
    """
)
# Whole, or without rows that have no user, which nobody looks for.
INDEXED_FIRST = text(
    """
    SELECT i.indrelid::regclass::text || '.' || a.attname
    FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indisvalid
      AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', a.attname))
    """
)
UNIQUE_TOGETHER = text(
    """
    SELECT i.indrelid::regclass::text AS own,
           array_agg(a.attname::text ORDER BY a.attnum) AS columns
    FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
    WHERE i.indisunique
    GROUP BY i.indexrelid, i.indrelid
    """
)
COLUMNS_THAT_LOOK_LIKE_A_USERS_ID = text(
    """
    SELECT table_name || '.' || column_name FROM information_schema.columns
    WHERE table_schema = 'public' AND data_type = 'uuid'
      AND (column_name IN ('user_id', 'updated_by_id', 'assigned_to_id') OR column_name LIKE '%\\_by\\_id')
    """
)
NOT_NULL = text(
    "SELECT table_name || '.' || column_name FROM information_schema.columns "
    "WHERE table_schema = 'public' AND is_nullable = 'NO'"
)


def foreign_keys(connection: Connection) -> dict[str, str]:
    """Column to what happens to it when the user is deleted; `a` is nothing."""
    return {row[0]: row[1] for row in connection.execute(FOREIGN_KEYS)}


def planned(*actions: Action) -> set[str]:
    return {child.name for child in PLAN if not actions or child.action in actions}


def unplanned(connection: Connection) -> set[str]:
    """Foreign keys to `users` that the plan does not name."""
    return set(foreign_keys(connection)) - planned()


@pytest.fixture
def a_new_table(connection: Connection) -> Iterator[None]:
    connection.execute(text("CREATE TABLE pets (id integer PRIMARY KEY, keeper_id uuid REFERENCES users)"))
    yield
    connection.execute(text("DROP TABLE pets"))


def test_every_foreign_key_to_users_is_planned(connection):
    assert unplanned(connection) == set()


def test_a_table_that_nobody_planned_is_noticed(connection, a_new_table):
    assert unplanned(connection) == {"pets.keeper_id"}


def test_nothing_is_planned_twice_and_what_is_planned_exists(connection):
    assert [name for name, times in Counter(child.name for child in PLAN).items() if times > 1] == []
    known = set(
        connection.execute(text("SELECT table_name || '.' || column_name FROM information_schema.columns")).scalars()
    )
    assert planned() <= known


def test_columns_that_hold_a_users_id_without_a_foreign_key_are_planned(connection):
    looking_so = set(connection.execute(COLUMNS_THAT_LOOK_LIKE_A_USERS_ID).scalars())
    assert looking_so <= planned()
    without = planned() - set(foreign_keys(connection))
    assert without == {
        "notifications.created_by_id",
        "notification_history.created_by_id",
        "user_deletions.requested_by_id",
        "user_deletions.user_id",
        "user_exports.user_id",
        "malformed_flags.user_id",
        "leader_boards.entries",
    }


def test_no_foreign_key_to_users_does_anything_by_itself(connection):
    assert set(foreign_keys(connection).values()) == {"a"}


def test_only_a_column_without_a_foreign_key_is_kept(connection):
    assert planned(Action.KEEP) & set(foreign_keys(connection)) == set()


def test_only_a_column_that_may_be_null_is_set_to_null(connection):
    assert planned(Action.SET_NULL) & set(connection.execute(NOT_NULL).scalars()) == set()


def test_every_planned_column_has_an_index_that_begins_with_it(connection):
    assert planned() - set(connection.execute(INDEXED_FIRST).scalars()) == set()


def test_what_is_unique_together_with_a_reassigned_column_is_in_the_plan(connection):
    unique: dict[str, Any] = {}
    for table, columns in connection.execute(UNIQUE_TOGETHER):
        unique.setdefault(table, []).append(columns)
    for child in PLAN:
        if child.action is Action.REASSIGN:
            together = [set(columns) - {child.column} for columns in unique[child.table] if child.column in columns]
            assert together == ([set(child.unique_with)] if child.unique_with else []), child.name


@pytest.mark.parametrize("child", PLAN, ids=lambda child: child.name)
def test_each_column_has_a_reason_and_a_key_that_fits(connection, child: Child):
    assert len(child.why) > 10
    if child.name not in foreign_keys(connection) and child.action is not Action.KEEP:
        assert child.key != "ctid", "nothing would hold the user's row back if a row were passed over"
