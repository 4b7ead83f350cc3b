"""Who may use the ops page of a local stack: one operator, with a password made for this once."""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from app.accounts.passwords import hash_password

NAME = "operator"


@dataclass(frozen=True)
class Access:
    """What the web process is given, and what a person is told."""

    settings: Mapping[str, str]
    says: str


def access(shell: Mapping[str, str] | None = None) -> Access:
    """An operator of our own, unless the shell names users; the page goes over plain http here."""
    given = os.environ if shell is None else shell
    if given.get("OPS_USERS", "").strip() or given.get("OPS_PROXY_HEADER", "").strip():
        return Access({"OPS_COOKIE_SECURE": "false"}, "as OPS_USERS or OPS_PROXY_HEADER say")
    password = secrets.token_urlsafe(9)
    settings = {
        "SECRET_KEY": secrets.token_hex(32),
        "OPS_USERS": json.dumps({NAME: hash_password(password)}),
        "OPS_COOKIE_SECURE": "false",
    }
    return Access(settings, f"user {NAME}, password {password}")
