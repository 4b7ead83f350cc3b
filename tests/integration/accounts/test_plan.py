"""The plan of a deletion, compared with the database's own catalogue.

Seen to fail: a foreign key left out of the plan; a unique constraint left out; ctid as the key of a column without a
foreign key; the catalogue not asked by the request, by the work, by the commands; `check_references` taken out of the
preconditions, and of those of people; deletions not noted by the relay; what is blocked believed; a deletion blocked
for good by a key that was planned later.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, text

from app import clock
from app.accounts import deletion
from app.accounts.conditions import unplanned
from app.accounts.errors import UnplannedReference
from app.accounts.preview import preview
from app.adopt import report
from app.celery import account_tasks
from app.config import Settings
from app.dao import platform_dao
from app.dao.deletion_plan import PLAN, Action, Child
from app.dao.people_dao import People
from app.dao.preconditions_dao import Reference
from app.doctor import database as doctor
from app.ops import metric_names, sections
from app.ops.collector import Collector
from app.ops.kept import Kept
from app.state import asked, people, preconditions
from app.state.findings import ACCOUNTS, DELETIONS, SESSIONS
from app.state.preconditions import Facts
from tests.integration.accounts import owned
from tests.integration.accounts.owned import create_user, dump, exists, fill, mark_by_sql, record, run

ADDRESSED = text(
    """
    SELECT i.indrelid::regclass::text || '.email_address' FROM pg_index AS i
    WHERE i.indisvalid AND pg_get_expr(i.indexprs, i.indrelid) = 'lower((email_address)::text)'
    """
)
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


@pytest.fixture
def a_new_table(connection: Connection) -> Iterator[None]:
    connection.execute(text("CREATE TABLE pets (id integer PRIMARY KEY, keeper_id uuid REFERENCES users)"))
    yield
    connection.execute(text("DROP TABLE pets"))


def test_every_foreign_key_to_users_is_planned(connection):
    assert unplanned(connection) == []


def test_a_table_that_nobody_planned_is_refused_by_name_before_the_first_row_goes(connection, a_new_table):
    user = create_user(connection)
    fill(connection, user)
    before = dump(connection)
    for ask in (delete, preview_of, mark_by_sql_and_run):
        assert "pets.keeper_id" in ask(connection, user)
    marks = {"users", "user_deletions"}
    after = dump(connection)
    assert {name: rows for name, rows in before.items() if name not in marks} == {
        name: rows for name, rows in after.items() if name not in marks
    }
    assert record(connection, user)["state"] == "running"


def delete(_connection, user):
    with pytest.raises(UnplannedReference) as refused:
        owned.delete(user)
    return str(refused.value)


def preview_of(_connection, user):
    return preview(user).forbidden


def mark_by_sql_and_run(connection, user):
    mark_by_sql(connection, user)
    assert not run(user)
    return record(connection, user)["reason"]


def test_once_the_table_is_gone_or_planned_the_deletion_goes_on_by_itself(connection):
    user = create_user(connection)
    connection.execute(text("CREATE TABLE pets (keeper_id uuid REFERENCES users)"))
    mark_by_sql_and_run(connection, user)
    assert deletion.take_due() == []
    connection.execute(text("DROP TABLE pets"))
    asked.forget()
    connection.execute(text("UPDATE user_deletions SET due_at = due_at - interval '300 seconds'"))
    assert deletion.take_due() == [user]
    assert run(user)
    assert not exists(connection, user)


def tell_everywhere(app: Flask, connection: Connection, settings: Settings) -> dict[str, str]:
    """What each surface says of the foreign keys to `users`."""
    asked.forget()
    account_tasks.relay_user_deletions()
    flask = app.test_cli_runner()
    return {
        "accounts status": flask.invoke(args=["accounts", "status"]).output,
        "doctor": " ".join(finding.says for finding in doctor.tables(settings)),
        "adopt": " ".join(finding.sentence for finding in report.look(settings, date(2026, 6, 15)).findings),
        "page": " ".join(one.sentence for one in sections.look(settings, Kept(), clock.now()).blocked.found),
    }


def blocked_by_metrics(settings: Settings) -> set[str]:
    told = [sample for family in Collector(settings).collect() for sample in family.samples]
    return {one.labels["policy"] for one in told if one.name == metric_names.BLOCKED.name and one.value}


def test_every_surface_names_a_foreign_key_that_nobody_planned_and_it_blocks_deletions_alone(
    app, connection, settings, a_new_table
):
    sentence = "o account can be deleted: the plan of deletions does not name pets.keeper_id, which refers to users"
    told = tell_everywhere(app, connection, settings)
    assert {surface for surface, says in told.items() if sentence not in says} == set()
    assert blocked_by_metrics(settings) == {DELETIONS}
    blocked = [one for one in (ACCOUNTS, SESSIONS, DELETIONS, DELETIONS) if asked.blocking(connection, one)]
    assert blocked == [DELETIONS, DELETIONS], "what is blocked is asked again"


def test_no_surface_says_so_where_everything_is_planned_or_accounts_are_off(app, connection, settings):
    told = tell_everywhere(app, connection, settings)
    assert {surface for surface, says in told.items() if "plan of deletions" in says} == set()
    assert blocked_by_metrics(settings) == set()
    key = Reference("pets", ("keeper_id",), "k")
    found = People("me", {}, {}, (key,))
    facts = Facts(platform_dao.read_anew(connection).catalogue, references=(key,))
    for enabled in (True, False):
        given = settings.model_copy(update={"accounts_enabled": enabled})
        for findings in (people.check(found, given), preconditions.check(facts, given)):
            assert any("pets.keeper_id" in finding.sentence for finding in findings) == enabled


PLANNED = (Child("pets", "keeper_id", Action.DELETE, "a pet goes with its keeper"),)


@pytest.mark.parametrize(
    ("reference", "is_planned"),
    [
        (Reference("pets", ("keeper_id",), "k"), True),
        (Reference("pets", ("vet_id",), "k"), False),
        (Reference("zoo.pets", ("keeper_id",), "k"), False),
        (Reference("pets", ("keeper_id", "keeper_state"), "k"), False),
    ],
)
def test_a_key_is_planned_by_its_table_and_its_only_column(reference, is_planned):
    assert people.unplanned([reference], PLANNED) == ([] if is_planned else [reference])


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
        "invited_users.email_address",
        "invited_organisation_users.email_address",
    }


def test_no_foreign_key_to_users_does_anything_by_itself(connection):
    assert set(foreign_keys(connection).values()) == {"a"}


def test_only_a_column_without_a_foreign_key_is_kept(connection):
    assert planned(Action.KEEP) & set(foreign_keys(connection)) == set()


def test_only_a_column_that_may_be_null_is_set_to_null(connection):
    assert planned(Action.SET_NULL) & set(connection.execute(NOT_NULL).scalars()) == set()


def test_every_planned_column_has_an_index_that_begins_with_it(connection):
    indexed = {*connection.execute(INDEXED_FIRST).scalars(), *connection.execute(ADDRESSED).scalars()}
    assert planned() - indexed == set()


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
    has_no_key = child.name not in foreign_keys(connection) and not child.holds_address
    if has_no_key and child.action is not Action.KEEP:
        assert child.key != "ctid", "nothing would hold the user's row back if a row were passed over"
