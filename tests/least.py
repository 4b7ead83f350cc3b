"""The least that the product needs of PostgreSQL and S3, made from the very files that operators use.

Tests run under exactly that: as a login that is a member of the role in `deploy/postgres`, and with an access key
that is under the policy in `deploy/aws`.
"""

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from psycopg2 import errors, sql
from sqlalchemy import Connection, NullPool, create_engine, make_url
from sqlalchemy.exc import ProgrammingError

from app.config import psycopg2_url

DEPLOY = Path(__file__).parents[1] / "deploy"
ROLE_FILE = DEPLOY / "postgres" / "retention_worker.sql"
ACCOUNTS_ROLE_FILE = DEPLOY / "postgres" / "accounts_worker.sql"
ARCHIVE_ROLE_FILE = DEPLOY / "postgres" / "archive_worker.sql"
OPS_ROLE_FILE = DEPLOY / "postgres" / "ops_page.sql"
POLICY_FILE = DEPLOY / "aws" / "retention-worker-policy.json"
ACCOUNTS_POLICY_FILE = DEPLOY / "aws" / "accounts-worker-policy.json"
ARCHIVE_POLICY_FILE = DEPLOY / "aws" / "archive-worker-policy.json"
SES_IDENTITY = "example.test"
ROLE, ACCOUNTS_ROLE, ARCHIVE_ROLE, OPS_ROLE = "retention_worker", "accounts_worker", "archive_worker", "ops_page"
SECONDS_TO_ANSWER = 30

# What every role may do by default, so that a GRANT of it would go unnoticed. Taken from PUBLIC while tests run.
DEFAULTS_OF_PUBLIC = ("CONNECT, TEMPORARY ON DATABASE {database}", "USAGE ON SCHEMA public")


class NotAllowed(RuntimeError):
    """TEST_DATABASE_URL's user can't make the role that tests run under."""


@contextmanager
def worker_login(administrator_url: str, role: str | None = None) -> Iterator[str]:
    """The URL of a login that has what the roles' files grant and nothing else, on migrated tables.

    Roles belong to the whole server, so that their names are this call's own; they are dropped at the end.
    """
    role = role or f"{ROLE}_{secrets.token_hex(6)}"
    accounts_role, archive_role, ops_role = f"{role}_accounts", f"{role}_archive", f"{role}_ops"
    login, password = f"{role}_login", secrets.token_hex(16)
    names = {"role": role, "accounts_role": accounts_role, "archive_role": archive_role, "ops_role": ops_role}
    names["login"] = login
    files = (
        (ROLE_FILE, ROLE, role),
        (ACCOUNTS_ROLE_FILE, ACCOUNTS_ROLE, accounts_role),
        (ARCHIVE_ROLE_FILE, ARCHIVE_ROLE, archive_role),
    )
    with administrator(administrator_url) as connection:
        try:
            for file, name, ours in (*files, (OPS_ROLE_FILE, OPS_ROLE, ops_role)):
                connection.exec_driver_sql(file.read_text().replace(name, ours).replace("%", "%%"))
            # Not in the file, since it shows others' queries; most of what yields to live traffic is tested with it.
            _execute(connection, "GRANT pg_read_all_stats TO {role}", names)
            # Nor a member of the archive's: tests of it see to that.
            made = "CREATE ROLE {login} LOGIN IN ROLE {role}, {accounts_role}, {ops_role} PASSWORD {password}"
            _execute(connection, made, names, password)
            _defaults(connection, "REVOKE {} FROM PUBLIC")
        except ProgrammingError as error:
            if not isinstance(error.orig, errors.InsufficientPrivilege):
                raise
            raise NotAllowed(f"{NotAllowed.__doc__} Give one that may create roles: {error.orig}") from None
    try:
        url = make_url(administrator_url).set(username=login, password=password)
        yield url.render_as_string(hide_password=False)
    finally:
        with administrator(administrator_url) as connection:
            _defaults(connection, "GRANT {} TO PUBLIC")
            _execute(connection, "DROP OWNED BY {login}, {role}, {accounts_role}, {archive_role}, {ops_role}", names)
            _execute(connection, "DROP ROLE {login}, {role}, {accounts_role}, {archive_role}, {ops_role}", names)


@contextmanager
def administrator(url: str) -> Iterator[Connection]:
    """A connection as the tables' owner; every statement of it commits at once."""
    engine = create_engine(psycopg2_url(url), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


def revoke_defaults(connection: Connection) -> None:
    """Take from PUBLIC, in the connection's database, what would make a GRANT go unnoticed."""
    _defaults(connection, "REVOKE {} FROM PUBLIC")


def _defaults(connection: Connection, statement: str) -> None:
    for default in DEFAULTS_OF_PUBLIC:
        database = sql.Identifier(connection.engine.url.database or "")
        composed = sql.SQL(statement.replace("{}", default)).format(database=database)
        connection.exec_driver_sql(composed.as_string(connection.connection.dbapi_connection))


def _execute(connection: Connection, statement: str, names: Mapping[str, str], password: str = "") -> None:
    identifiers = {key: sql.Identifier(name) for key, name in names.items()}
    composed = sql.SQL(statement).format(**identifiers, password=sql.Literal(password))
    connection.exec_driver_sql(composed.as_string(connection.connection.dbapi_connection))


def policy(buckets: Mapping[str, str], file: Path = POLICY_FILE) -> dict[str, Any]:
    """The policy for the buckets that S3_BUCKET_… name."""
    return json.loads(Template(file.read_text()).substitute(SES_IDENTITY=SES_IDENTITY, **buckets))


def empty_buckets(s3_url: str, buckets: Iterable[str]) -> None:
    """Take everything from the buckets of a server of tests.fakes.s3_under_policy, at once."""
    url = f"{s3_url}/_objects?{urlencode({'bucket': list(buckets)}, doseq=True)}"
    with build_opener(ProxyHandler({})).open(Request(url, method="DELETE"), timeout=SECONDS_TO_ANSWER):  # noqa: S310
        """Answered."""


def fill_bucket(s3_url: str, bucket: str, keys: Iterable[str]) -> None:
    """Put a file under each of the keys, on a server of tests.fakes.s3_under_policy, at once."""
    url = f"{s3_url}/_objects?{urlencode({'bucket': bucket})}"
    request = Request(url, json.dumps(list(keys)).encode(), method="PUT")  # noqa: S310
    with build_opener(ProxyHandler({})).open(request, timeout=SECONDS_TO_ANSWER):
        """Answered."""


def put_under_policy(s3_url: str, access_key: str, document: Mapping[str, Any], *, terse: bool = False) -> None:
    """From now on the access key may do what the policy says, on a server of tests.fakes.s3_under_policy."""
    url = f"{s3_url}/_policies/{access_key}{'?terse' if terse else ''}"
    request = Request(url, json.dumps(document).encode(), method="PUT")  # noqa: S310
    with build_opener(ProxyHandler({})).open(request, timeout=SECONDS_TO_ANSWER):
        """Answered."""
