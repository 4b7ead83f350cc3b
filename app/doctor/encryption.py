"""Whether the broker and the database are spoken to through TLS, and what is verified of them."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from app import broker
from app.config import Settings
from app.db import db
from app.doctor.finding import Finding, ok, warning

CHECK = "encryption"
HERE = ("localhost", "127.0.0.1", "::1", "")
VERIFIED = {
    "verify-full": "its certificate and its name are verified",
    "verify-ca": "its certificate is verified, not its name",
}
"""By libpq's sslmode; the others verify nothing."""


def examine(settings: Settings) -> Iterator[Finding]:
    """The broker, then the database."""
    yield _broker(settings)
    yield _database()


def _broker(settings: Settings) -> Finding:
    if broker.kind(settings) == "sqs":
        return ok(CHECK, "SQS is spoken to with TLS; boto3 verifies its certificate (AWS_CA_BUNDLE).")
    if broker.tls(settings):
        by = f"BROKER_CA_FILE ({settings.broker_ca_file})" if settings.broker_ca_file else "the system's authorities"
        return ok(CHECK, f"The broker is spoken to with TLS; its certificate and its name are verified against {by}.")
    elsewhere = [host for host in map(_host, settings.celery_broker_url.split(";")) if host not in HERE]
    if not elsewhere:
        return ok(CHECK, "The broker is on this host, and spoken to without TLS.")
    secure = {"redis": "rediss", "amqp": "amqps"}[broker.kind(settings)]
    return warning(
        CHECK,
        f"The broker on {elsewhere[0]} is spoken to without TLS: whoever is between may write messages.",
        f"Begin CELERY_BROKER_URL with {secure}://, and name its authority in BROKER_CA_FILE.",
    )


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _database() -> Finding:
    with db.transaction(read_only=True) as connection:
        info: Any = connection.connection.driver_connection.info  # type: ignore[union-attr]
        host, mode, is_encrypted = info.host or "", info.dsn_parameters.get("sslmode", "prefer"), info.ssl_in_use
    if is_encrypted and mode in VERIFIED:
        return ok(CHECK, f"The database on {host} is spoken to with TLS; {VERIFIED[mode]} (sslmode={mode}).")
    if host in HERE or host.startswith("/"):
        return ok(CHECK, f"The database is on this host, and spoken to {'with' if is_encrypted else 'without'} TLS.")
    return warning(
        CHECK,
        f"The database on {host} is spoken to {'with TLS, and could be anyone' if is_encrypted else 'without TLS'} "
        f"(sslmode={mode}).",
        "Append ?sslmode=verify-full&sslrootcert=FILE to DATABASE_URL.",
    )
