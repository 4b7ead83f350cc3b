"""Who is not the database can't pass for it, where the URL says that it is to be verified; `flask doctor` says what is.

Seen to fail: with `sslmode=require` in place of the others nobody was refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from app import config, create_app
from app.doctor import encryption
from app.doctor.finding import Finding, Level
from dev.processes import HOST
from tests.fakes.tls_server import tls_in_front_of

NAME, ANOTHER = "database.example.test", "another.example.test"


@dataclass(frozen=True)
class Served:
    """The tests' database behind TLS, with a certificate of ours for NAME: its port, and each authority's file."""

    port: int
    files: dict[str, str]

    def url(self, without_tls: str, name: str, mode: str, trusts: str | None) -> str:
        query = {"hostaddr": HOST, "sslmode": mode, "gssencmode": "disable"}
        query |= {"sslrootcert": self.files[trusts]} if trusts else {}
        made = make_url(without_tls).set(host=name, port=self.port, query=query)
        return made.render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def served(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory: Path = tmp_path_factory.mktemp("database-tls")
    authorities = {name: trustme.CA() for name in ("ours", "another")}
    files = {name: directory / f"{name}.pem" for name in authorities}
    for name, authority in authorities.items():
        authority.cert_pem.write_to_path(str(files[name]))
    port = make_url(environment["DATABASE_URL"]).port or 5432
    with tls_in_front_of(port, authorities["ours"].issue_cert(NAME), for_postgresql=True) as port_of_tls:
        yield Served(port_of_tls, {name: str(file) for name, file in files.items()})


def examined(environment: dict[str, str], url: str) -> Finding:
    """What `flask doctor` says of the database's encryption, once the application has connected."""
    app = create_app(config.load({**environment, "DATABASE_URL": url}))
    try:
        with app.app_context():
            return list(encryption.examine(app.extensions["settings"]))[-1]
    finally:
        app.extensions["db.engine"].dispose()


@pytest.mark.parametrize(
    ("name", "mode", "trusts", "level", "says"),
    [
        (NAME, "verify-full", "ours", Level.OK, "its certificate and its name are verified (sslmode=verify-full)"),
        (ANOTHER, "verify-ca", "ours", Level.OK, "its certificate is verified, not its name (sslmode=verify-ca)"),
        (NAME, "require", None, Level.WARNING, "with TLS, and could be anyone (sslmode=require)"),
        (NAME, "prefer", None, Level.WARNING, "with TLS, and could be anyone (sslmode=prefer)"),
    ],
)
def test_the_doctor_says_what_is_verified_of_the_database(environment, served, name, mode, trusts, level, says):
    found = examined(environment, served.url(environment["DATABASE_URL"], name, mode, trusts))
    assert (found.level, says in found.says) == (level, True), found.says


@pytest.mark.parametrize(
    ("name", "mode", "trusts"),
    [
        (NAME, "verify-full", "another"),
        (ANOTHER, "verify-full", "ours"),
        (NAME, "verify-ca", "another"),
    ],
)
def test_nobody_passes_for_a_database_that_is_verified(environment, served, name, mode, trusts):
    with pytest.raises(OperationalError, match="certificate"):
        examined(environment, served.url(environment["DATABASE_URL"], name, mode, trusts))
