"""Databases of the variants with the pipeline installed beside them, and a login that has what was printed, no more.

`flask retention adopt --install` is run as a platform's team would run it, as the owner of the database; what it prints
is run as it is, but for the name of the group, since roles are the whole server's.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from click.testing import Result
from psycopg2 import sql
from sqlalchemy import Connection, Engine, make_url

from app import config, create_app, own_schema
from tests.least import ROLE, revoke_defaults
from tests.variants import database

STATEMENT = re.compile(r"^  ((?:GRANT|REVOKE) .+;)$", re.MULTILINE)
SWITCHED_OFF = {"ACCOUNTS_ENABLED": "false", "SESSIONS_ENABLED": "false"}


@dataclass(frozen=True)
class Adopted:
    """A database that was adopted."""

    name: str
    """The variant's."""
    owner: Engine
    """An administrator's, as `tests.variants.database` gives it: sets up, and looks at what became of it. It calls our
    schema `retention`, whatever its name is.
    """
    url: str
    """Of the login that has the printed grants."""
    environment: dict[str, str]
    """Of the application and its workers on it: that login, the platform's preset, no accounts."""


@contextmanager
def adopted(environment: Mapping[str, str], name: str, **variables: str) -> Iterator[Adopted]:
    """A new database of this variant (or of our own platform tables), adopted; all is gone again at the end."""
    with database(environment["DATABASE_URL"], name, own_to="platform@head") as engine:
        preset = name.removesuffix("-partitioned")
        own_schema.use(engine, variables.get("RETENTION_SCHEMA", own_schema.USUAL))
        ended = flask_adopt(environment, url_of(engine), "--install", "--yes", PLATFORM_PRESET=preset, **variables)
        assert ended.exit_code == 0, ended.output
        with login(engine, granted(ended.stdout)) as url:
            of_login = {**environment, **SWITCHED_OFF, "PLATFORM_PRESET": preset, **variables, "DATABASE_URL": url}
            yield Adopted(preset, engine, url, of_login)


def flask_adopt(
    environment: Mapping[str, str], url: str, *arguments: str, answer: str = "", **variables: str
) -> Result:
    """`flask retention adopt` on the database at `url`, with what is typed when it asks."""
    application = create_app(config.load({**environment, **SWITCHED_OFF, "DATABASE_URL": url, **variables}))
    try:
        return application.test_cli_runner().invoke(args=["retention", "adopt", *arguments], input=answer)
    finally:
        application.extensions["db.engine"].dispose()


def url_of(engine: Engine) -> str:
    """As DATABASE_URL has it."""
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


def granted(output: str) -> list[str]:
    """The statements that were printed last: after an installation those on the pipeline's own tables, too."""
    return STATEMENT.findall(output[output.rindex("The least that the pipeline's role needs") :])


@contextmanager
def login(engine: Engine, statements: list[str]) -> Iterator[str]:
    """The URL of a login whose group these statements were run for, and that has nothing else, not as one of PUBLIC."""
    role, password = f"{ROLE}_{secrets.token_hex(6)}", secrets.token_hex(16)
    names = {"role": sql.Identifier(role), "login": sql.Identifier(f"{role}_login"), "password": sql.Literal(password)}
    administrator = engine.execution_options(isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        execute(connection, sql.SQL("CREATE ROLE {role} NOLOGIN").format(**names))
        execute(connection, sql.SQL("CREATE ROLE {login} LOGIN IN ROLE {role} PASSWORD {password}").format(**names))
    try:
        with administrator.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement.replace(ROLE, role).replace("%", "%%"))
            revoke_defaults(connection)
        made = make_url(url_of(engine)).set(username=f"{role}_login", password=password)
        yield made.render_as_string(hide_password=False)
    finally:
        with administrator.connect() as connection:  # another one: the server may have been restarted meanwhile
            execute(connection, sql.SQL("DROP OWNED BY {login}, {role}").format(**names))
            execute(connection, sql.SQL("DROP ROLE {login}, {role}").format(**names))


def execute(connection: Connection, composed: sql.Composed) -> None:
    """Run a statement that names what varies."""
    connection.exec_driver_sql(composed.as_string(connection.connection.dbapi_connection).replace("%", "%%"))
