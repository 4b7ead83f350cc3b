"""Every policy of the registry against the database as it is now."""

from collections.abc import Iterable

from flask import current_app
from sqlalchemy import Connection

from app.config import Settings
from app.dao import policy_catalogue_dao
from app.policies.binding import DEPTH, Bound, bind
from app.policies.reading import Policy


def check(connection: Connection, policies: Iterable[Policy]) -> list[Bound]:
    """What the catalogue says of these policies."""
    asked = list(policies)
    if not asked:
        return []
    names = {name for policy in asked for name in (policy.entry.table, policy.entry.then.move) if name}
    found = policy_catalogue_dao.read(connection, names, DEPTH)
    settings: Settings = current_app.extensions["settings"]
    return [bind(policy, found, settings.policy_scan_rows) for policy in asked]
