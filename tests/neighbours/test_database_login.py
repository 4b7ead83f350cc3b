"""A login of the database that was granted nothing, and the records that only the database may write.

Seen to fail on the functions of migration 0008: the account of the first test was deleted, and the stranger's address
got the confirmation.
"""

import secrets
from collections.abc import Iterator

import pytest
from alembic import command
from psycopg2 import errors
from sqlalchemy import Connection, Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import ProgrammingError

from app.accounts import confirmation, deletion
from app.config import psycopg2_url
from app.dao.holds_dao import PIPELINE
from app.db import db
from app.retention import operations
from app.revisions import alembic_config
from tests.factories import create_service
from tests.integration.accounts.owned import create_user, exists, mark_by_sql, record, run
from tests.least import ACCOUNTS_ROLE, ACCOUNTS_ROLE_FILE, OPS_ROLE, OPS_ROLE_FILE, ROLE, ROLE_FILE
from tests.servers import Servers, new_database
from tests.variants import OWN
from tests.variants.adopted import adopted

FORGERY = """
CREATE TEMPORARY TABLE users (id uuid, flags jsonb, email_address text);
CREATE TRIGGER forged AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION public.capture_user_deletion();
INSERT INTO users VALUES ('{id}', '{{"in_deletion": true}}', 'stranger@example.test');
"""
EXECUTABLE_BY_PUBLIC = text(
    """
    SELECT p.oid::regprocedure::text
    FROM pg_proc AS p
    CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS granted
    WHERE granted.grantee = 0 AND granted.privilege_type = 'EXECUTE'
      AND p.pronamespace::regnamespace::text IN ('public', 'retention')
      AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = p.oid AND d.deptype = 'e')
    """
)
"""Functions that any login may call, but for those of extensions."""


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {"S3_BUCKET_USER_FILES": ""}


@pytest.fixture
def stranger(connection: Connection, started_servers: Servers) -> Iterator[Engine]:
    """The database as a new login has it: with what PUBLIC has by default."""
    name, password = f"stranger_{secrets.token_hex(6)}", secrets.token_hex(16)
    database = connection.engine.url.database
    connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    connection.exec_driver_sql(f'GRANT CONNECT, TEMPORARY ON DATABASE "{database}" TO {name}')
    connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA public TO {name}")
    url = make_url(psycopg2_url(started_servers.administrator_url)).set(username=name, password=password)
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    yield engine
    connection.exec_driver_sql(f"DROP OWNED BY {name}")
    connection.exec_driver_sql(f"DROP ROLE {name}")


def test_a_login_without_grants_cannot_have_an_account_deleted(connection, stranger):
    user = create_user(connection)
    with pytest.raises(ProgrammingError) as refused, stranger.connect() as own:
        own.exec_driver_sql(FORGERY.format(id=user))
    assert isinstance(refused.value.orig, errors.InsufficientPrivilege)
    assert record(connection, user) is None


def test_the_function_captures_marks_of_the_table_of_users_alone(connection):
    """Whoever may call it, its owner too: another table's rows start nothing."""
    user = create_user(connection)
    with pytest.raises(ProgrammingError, match="is not for the table"):
        connection.exec_driver_sql(FORGERY.format(id=user))
    assert record(connection, user) is None


@pytest.fixture(params=["migrated", "adopted"])
def owner(
    request: pytest.FixtureRequest, environment: dict[str, str], administrator_engine: Engine
) -> Iterator[Engine]:
    """A database that our migrations made, and one that was adopted."""
    if request.param == "migrated":
        yield administrator_engine
    else:
        with adopted(environment, OWN) as found:
            yield found.owner


def test_no_function_of_ours_is_executable_by_everybody(owner):
    with owner.connect() as connection:
        assert connection.execute(EXECUTABLE_BY_PUBLIC).scalars().all() == []


def test_a_request_for_a_user_who_is_not_marked_deletes_nothing(connection):
    """Whoever could write requests: the user's own row is asked before the first row goes."""
    user = create_user(connection)
    connection.execute(text("INSERT INTO user_deletions (user_id) VALUES (:id)"), {"id": user})
    assert deletion.take_due() == [user]
    assert not run(user)
    blocked = record(connection, user)
    assert (blocked["state"], blocked["rows_done"]) == ("blocked", 0)
    assert "not marked" in blocked["reason"]
    assert exists(connection, user)
    mark_by_sql(connection, user)
    assert run(user)
    assert not exists(connection, user)


def test_the_confirmation_goes_to_the_address_in_the_users_own_row(connection):
    user = create_user(connection, email_address="own@example.test")
    mark_by_sql(connection, user)
    assert record(connection, user)["confirmation_address"] is None, "kept no longer than it is needed"
    connection.execute(text("UPDATE user_deletions SET confirmation_address = 'stranger@example.test'"))
    assert run(user)
    sent: list[str] = []
    confirmation.confirm(user, lambda to, _message: sent.append(to))
    assert sent == ["own@example.test"]


# The pipeline's own role ----------------------------------------------------------------------------------------------

ACTED = text(
    "INSERT INTO retention.ops_actions (acted_at, acted_by, action) "
    "VALUES (now() - make_interval(days => :days), :by, :by)"
)


def test_the_role_can_not_take_away_what_it_did_lately(app, connection):
    for days in (0, 29, 31):
        connection.execute(ACTED, {"days": days, "by": f"{days} days ago"})
    with db.transaction() as own:
        own.execute(text("DELETE FROM retention.ops_actions"))
    left = connection.execute(text("SELECT acted_by FROM retention.ops_actions ORDER BY id")).scalars().all()
    assert left == ["0 days ago", "29 days ago"]


@pytest.mark.parametrize("scope", ["pipeline", "service"])
def test_the_role_lifts_no_hold_without_a_record(app, connection, scope):
    service = create_service(connection)
    placed = (
        operations.hold(service, "an inquiry", "olga") if scope == "service" else operations.pause("a move", "olga")
    )
    assert placed.is_new
    with pytest.raises(ProgrammingError, match="require_record_of_lift"), db.transaction() as own:
        own.execute(text("DELETE FROM retention.holds"))
    assert connection.execute(text("SELECT count(*) FROM retention.holds")).scalar() == 1
    lifted, _ = operations.lift(PIPELINE if scope == "pipeline" else str(service), "olga")
    assert lifted
    assert connection.execute(text("SELECT count(*) FROM retention.holds")).scalar() == 0


def test_the_files_can_be_applied_by_an_owner_who_is_no_superuser(environment, connection):
    """In one transaction, as the files say, on the server that the suite has."""
    owner = f"owner_{secrets.token_hex(6)}"
    names = {name: f"{name}_{secrets.token_hex(6)}" for name in (ROLE, ACCOUNTS_ROLE, OPS_ROLE)}
    connection.exec_driver_sql(f"CREATE ROLE {owner} CREATEROLE NOSUPERUSER LOGIN PASSWORD '{owner}'")
    try:
        with new_database(environment["DATABASE_URL"]) as url:
            made = make_url(psycopg2_url(url))
            connection.exec_driver_sql(f'ALTER DATABASE "{made.database}" OWNER TO {owner}')
            engine = create_engine(made.set(username=owner, password=owner), poolclass=NullPool)
            command.upgrade(alembic_config(engine.url.render_as_string(hide_password=False)), "heads")
            with engine.begin() as own:
                for file in (ROLE_FILE, ACCOUNTS_ROLE_FILE, OPS_ROLE_FILE):
                    statements = file.read_text()
                    for name, ours in names.items():
                        statements = statements.replace(name, ours)
                    own.exec_driver_sql(statements.replace("%", "%%"))
    finally:
        for name in (*names.values(), owner):
            connection.exec_driver_sql(f"DROP ROLE IF EXISTS {name}")
