"""Who may see the page: users of the settings, or whom a trusted proxy names. Nobody else, and never all.

Where neither is configured, the page says so and shows nothing. A session is a row here and a token in the browser's
cookie: logging out ends it for good. It also ends some hours after its start, and after some minutes without a click;
the page's own refreshing is no click.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from flask import current_app, g, redirect, request, session, url_for
from flask_wtf.csrf import CSRFProtect
from werkzeug.exceptions import Forbidden, ServiceUnavailable, TooManyRequests
from werkzeug.wrappers import Response

from app import clock
from app.accounts import login_limits, passwords
from app.accounts.login_limits import OPS, TooManyAttempts
from app.config import Settings
from app.dao import ops_dao
from app.db import db
from app.proxies import client_address, is_from_proxy

log = structlog.get_logger(__name__)

TOKEN = "token"  # noqa: S105 - the key of it
MOST_CHARACTERS_OF_A_NAME = 64
OPEN_TO_ALL = ("ops.login", "ops.log_in", "ops.static")
NOT_CONFIGURED = (
    "Access to this page is not configured, so it shows nothing to anybody. Set SECRET_KEY and OPS_USERS, or "
    "OPS_PROXY_HEADER and TRUSTED_PROXIES."
)

csrf = CSRFProtect()


@dataclass(frozen=True)
class Operator:
    """Whoever uses the page. `may_act` is False for those who only look."""

    name: str
    may_act: bool
    by_proxy: bool = False


class WrongCredentials(ValueError):
    """The name or the password is wrong."""


def settings() -> Settings:
    """The application's settings."""
    own: Settings = current_app.extensions["settings"]
    return own


def let_in() -> Response | None:
    """Before each request of the page: nobody goes on who is not known, and no form that is not the page's own."""
    if request.endpoint == "ops.static":
        return None
    if settings().secret_key is None or not (settings().ops_users or settings().ops_proxy_header):
        raise ServiceUnavailable(NOT_CONFIGURED)
    g.operator = _operator(clock.now())
    if g.operator is None and request.endpoint not in OPEN_TO_ALL:
        return _to_the_login()
    csrf.protect()
    return None


def operator() -> Operator:
    """Whoever is here."""
    known: Operator = g.operator
    return known


def require_acting() -> None:
    """Refuse those who may only look."""
    if not operator().may_act:
        raise Forbidden("You may look at this page, and do nothing on it.")


def log_in(name: str, password: str, now: datetime) -> None:
    """Log somebody in, in a new session. Raises WrongCredentials, and TooManyRequests with the seconds to wait.

    An unknown name takes as long as a known one, and gets the same answer.
    """
    address = client_address(request, settings())
    try:
        login_limits.count(OPS, name, address, now)
    except TooManyAttempts as error:
        log.warning("ops-login-limited", seconds=error.seconds)
        sentence = "Too many attempts to log in. Wait before the next one."
        raise TooManyRequests(sentence, retry_after=error.seconds) from None
    is_right = passwords.is_right(password[: passwords.MOST_CHARACTERS], settings().ops_users.get(name))
    if not is_right or len(password) > passwords.MOST_CHARACTERS:
        log.warning("ops-login-refused")
        raise WrongCredentials
    login_limits.succeeded(OPS, name, address)
    login_limits.purge(now)  # here too, since without accounts nothing else does
    log_out()
    token = secrets.token_urlsafe(32)
    with db.transaction() as connection:
        ops_dao.forget_sessions(connection, **_since(now))
        ops_dao.open_session(connection, _hash(token), name, now)
    session[TOKEN] = token
    log.info("ops-logged-in", by=name)


def log_out() -> None:
    """End the session here and in the browser, its form tokens too."""
    token = session.get(TOKEN)
    if isinstance(token, str):
        with db.transaction() as connection:
            ops_dao.close_session(connection, _hash(token))
    session.clear()
    g.pop("csrf_token", None)


def is_refresh() -> bool:
    """Whether the page asks by itself, and nobody has clicked."""
    return request.method == "GET" and "HX-Request" in request.headers


def _operator(now: datetime) -> Operator | None:
    name = _named_by_proxy()
    if name is not None:
        return Operator(name, settings().may_act(name, by_proxy=True), by_proxy=True)
    token = session.get(TOKEN)
    if not isinstance(token, str):
        return None
    with db.transaction(statement_seconds=5) as connection:
        name = ops_dao.find_session(connection, _hash(token), **_since(now))
        if name is not None and not is_refresh():
            ops_dao.see_session(connection, _hash(token), now)
    if name not in settings().ops_users:  # taken from the settings since
        return None
    return Operator(name, settings().may_act(name, by_proxy=False))


def _named_by_proxy() -> str | None:
    """The name in the proxy's header, if that is switched on and the request comes from the proxy itself."""
    header = settings().ops_proxy_header
    if header is None or not is_from_proxy(request, settings()):
        return None
    name = request.headers.get(header, "").strip()
    # A comma is what is left of two headers, one of which somebody else has sent.
    return name if 0 < len(name) <= MOST_CHARACTERS_OF_A_NAME and name.isprintable() and "," not in name else None


def _since(now: datetime) -> dict[str, datetime]:
    return {
        "opened_after": now - timedelta(hours=settings().ops_session_hours),
        "seen_after": now - timedelta(minutes=settings().ops_session_idle_minutes),
    }


def _to_the_login() -> Response:
    if not settings().ops_users:
        raise Forbidden("Only those are let in whom the proxy in front of this page names, and it named nobody.")
    login = url_for("ops.login")
    if is_refresh():
        return Response(status=401, headers={"HX-Redirect": login})
    return redirect(login, 303)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
