"""How often one may try to log in: so often with a name, and so often from a client, over all processes together.

An attempt is counted before the password is looked at, so that many at once are no way around it, and whoever is past
the limit costs no hashing. It is the name as it was sent that counts, known or not: a refusal says nothing of whether
there is such an account. What is kept of both is a hash under the application's key, until the time is up: a name may
be a password that was typed into the wrong field, and addresses are personal data.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil

from app.accounts.tools import tools
from app.dao import login_attempts_dao, turns_dao
from app.db import db
from app.engine import stops

IPV6_BITS = 64
"""Of an IPv6 address: a household has that many, and one household counts as one client."""
PURGED_AT_ONCE = 1000


@dataclass(frozen=True)
class Place:
    """Where one logs in. Each counts by itself, and allows the settings' attempts divided by these, at least one."""

    name: str
    per_account_divided_by: int = 1
    per_client_divided_by: int = 1


ACCOUNTS = Place("accounts")
OPS = Place("ops", per_account_divided_by=2, per_client_divided_by=5)
"""Few people log in there, and whoever gets in can stop the pipeline."""


class TooManyAttempts(Exception):
    """The limit is reached. The next attempt counts anew in `seconds`, whole ones and at least 1."""

    def __init__(self, seconds: int) -> None:
        super().__init__(TooManyAttempts.__doc__)
        self.seconds = seconds


def count(place: Place, name: str, client: str | None, now: datetime) -> None:
    """Count an attempt. Raises TooManyAttempts.

    A client past its limit counts against no name: it could lock everybody out.
    """
    settings = tools().settings
    if client is not None:
        most = settings.login_attempts_per_client // place.per_client_divided_by
        _count(_of_client(place, client), max(1, most), now)
    most = settings.login_attempts_per_account // place.per_account_divided_by
    _count(_of_name(place, name), max(1, most), now)


def succeeded(place: Place, name: str, client: str | None) -> None:
    """Who knows the password begins anew. The client's earlier failures stay: it may know one password of many."""
    with db.transaction() as connection:
        login_attempts_dao.forget(connection, _of_name(place, name))
    if client is not None:
        with db.transaction() as connection:
            login_attempts_dao.take_back(connection, _of_client(place, client))


def purge(now: datetime) -> bool:
    """Forget what counts no more, a batch; nothing while the pipeline is paused. Returns whether there may be more."""
    with db.transaction() as connection:
        if stops.stopped(connection, stops.turn(turns_dao.RECORDS)):
            return False
        return login_attempts_dao.purge(connection, now, PURGED_AT_ONCE) == PURGED_AT_ONCE


def _count(key: bytes, most: int, now: datetime) -> None:
    # A transaction each, so that two attempts never wait for each other's rows.
    kept_for = timedelta(minutes=tools().settings.login_attempts_minutes)
    with db.transaction() as connection:
        attempts, left = login_attempts_dao.count(connection, key, now, kept_for)
    if attempts > most:
        raise TooManyAttempts(max(1, ceil(left.total_seconds())))


def _of_name(place: Place, name: str) -> bytes:
    return _hash(place, "name", name.strip().lower())


def _of_client(place: Place, client: str) -> bytes:
    return _hash(place, "client", network_of(client))


def network_of(client: str) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        address = ip_address(client)
    except ValueError:
        return client
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(ip_network((int(address), IPV6_BITS), strict=False))
    return str(getattr(address, "ipv4_mapped", None) or address)


def _hash(place: Place, kind: str, value: str) -> bytes:
    key = tools().settings.secret_key
    own = key.get_secret_value() if key else ""  # the API goes without one, where nobody uses the ops page
    return hmac.new(own.encode(), f"{place.name} {kind} {value}".encode(errors="replace"), hashlib.sha256).digest()
