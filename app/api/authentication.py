"""Who calls: by `Authorization: Bearer <token>`, or by the cookie `session` of a browser.

A browser sends its cookie with whatever another site makes it ask for; what changes something therefore needs, beside
the cookie, the header X-Requested-With, which a page of another site can't set. Who sends the token itself needs none.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from flask import Response, current_app, request

from app import clock
from app.accounts import sessions
from app.accounts.sessions import Opened
from app.api import visitors
from app.api.errors import ApiError
from app.config import Settings

COOKIE = "session"
CSRF_HEADER = "X-Requested-With"
BROWSERS_HEADER = "Sec-Fetch-Mode"
"""Browsers send it by themselves, and no page's script can set it or leave it out."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CHALLENGE = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True)
class Caller:
    """A user, or with `user_id` None an anonymous visitor."""

    user_id: UUID | None
    is_administrator: bool
    session_id: UUID
    is_inactive: bool
    is_in_deletion: bool


@dataclass(frozen=True)
class User(Caller):
    """A caller who is logged in."""

    user_id: UUID


def in_deletion() -> ApiError:
    """What an account in deletion gets."""
    return ApiError(403, "account-in-deletion", "This account is being deleted. It can't be used any more.")


def not_active() -> ApiError:
    """What an account gets that was not completed, or that has been switched off."""
    return ApiError(403, "account-not-active", "This account was not completed, or has been switched off.")


def is_browser() -> bool:
    """Whether a browser asks, which keeps its token as a cookie. Other programs are given the token itself."""
    return BROWSERS_HEADER in request.headers or CSRF_HEADER in request.headers


def find_caller() -> Caller | None:
    """The caller; None where the request has no token. Raises ApiError for a token that is unknown or dead, and for a
    client that has asked too often without one that lives.
    """
    token = _token()
    if token is None:
        visitors.count()
        return None
    found = sessions.find(token, clock.now())
    if found is None:
        visitors.count()
        raise ApiError(401, "invalid-session", "The session is unknown or over. Log in again.", _end_of_cookie())
    return Caller(found.user_id, found.is_administrator, found.id, found.is_inactive, found.is_in_deletion)


def the_user(*, even_in_deletion: bool = False) -> User:
    """The user who calls. Raises ApiError without one, when not active, and unless allowed for one in deletion."""
    caller = find_caller()
    if caller is None or caller.user_id is None:
        raise ApiError(401, "no-credentials", "Log in first.", CHALLENGE)
    if caller.is_in_deletion and not even_in_deletion:
        raise in_deletion()
    if caller.is_inactive:
        raise not_active()
    return User(caller.user_id, caller.is_administrator, caller.session_id, caller.is_inactive, caller.is_in_deletion)


def set_cookie(response: Response, opened: Opened, now: datetime) -> None:
    """Give a browser its token, out of reach of scripts."""
    lasting = int((opened.expires_at - now).total_seconds())
    response.set_cookie(
        COOKIE, opened.token, max_age=lasting, httponly=True, samesite="Lax", secure=_is_https(), path="/"
    )


def end_cookie(response: Response) -> None:
    """Take the token from a browser that has it as a cookie."""
    if COOKIE in request.cookies:
        response.delete_cookie(COOKIE, httponly=True, samesite="Lax", secure=_is_https(), path="/")


def _token() -> str | None:
    authorization = request.headers.get("Authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise ApiError(401, "invalid-session", "Authorization must be: Bearer <token>.", CHALLENGE)
        return token.strip()
    cookie = request.cookies.get(COOKIE)
    if cookie and request.method not in SAFE_METHODS and not request.headers.get(CSRF_HEADER):
        raise ApiError(403, "csrf", f"A request with the cookie needs the header {CSRF_HEADER}, with any value.")
    return cookie or None


def _end_of_cookie() -> dict[str, str]:
    """Headers of the answer to a dead token: scripts can't take the cookie away, so the answer does."""
    response = Response()
    end_cookie(response)
    ended = response.headers.get("Set-Cookie")
    return CHALLENGE | ({"Set-Cookie": ended} if ended else {})


def _is_https() -> bool:
    settings: Settings = current_app.extensions["settings"]
    return settings.site_url.lower().startswith("https://")
