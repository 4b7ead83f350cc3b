"""What a front end calls at its start, and logging in and out."""

from typing import Any

import structlog
from flask import Blueprint, Response, current_app, jsonify, request

from app import clock, proxies
from app.accounts import sessions
from app.accounts.login_limits import TooManyAttempts
from app.accounts.passwords import MOST_CHARACTERS
from app.accounts.sessions import InDeletion, NotActive, Opened, WrongCredentials
from app.api.arguments import json_strings
from app.api.authentication import (
    Caller,
    end_cookie,
    find_caller,
    in_deletion,
    is_browser,
    not_active,
    set_cookie,
)
from app.api.errors import ApiError

log = structlog.get_logger(__name__)

blueprint = Blueprint("sessions", __name__)


@blueprint.after_request
def _keep_nowhere(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.get("/boot")
def boot() -> Response:
    """Who is here. A user's visit is recorded. Of a visitor there is nothing to keep: no token, and no row."""
    caller = find_caller()
    if caller is None:
        return jsonify(user=None)
    if caller.is_in_deletion:
        raise in_deletion()
    if caller.is_inactive:
        raise not_active()
    if caller.user_id is not None:
        sessions.record(caller.user_id, clock.now())
    return jsonify(user=_user(caller))


@blueprint.post("/login")
def login() -> Response:
    """A session for an address and its password. The caller's anonymous or earlier session is replaced."""
    email_address, password = json_strings("email_address", "password", most_characters=MOST_CHARACTERS)
    caller = _whoever()
    before = None if caller is None else caller.session_id
    client = proxies.client_address(request, current_app.extensions["settings"])
    try:
        opened = sessions.log_in(email_address, password, clock.now(), before, client)
    except TooManyAttempts as error:
        raise _too_many(error) from None
    except WrongCredentials:
        raise ApiError(401, "wrong-credentials", "The address or the password is wrong.") from None
    except InDeletion:
        raise in_deletion() from None
    except NotActive:
        raise not_active() from None
    log.info("logged-in", user_id=str(opened.user_id))
    return _with_token(opened)


@blueprint.post("/logout")
def logout() -> Response:
    """The session is over. Without one there is nothing to end."""
    caller = find_caller()
    if caller is None:
        raise ApiError(401, "no-credentials", "There is no session to end.")
    sessions.log_out(caller.session_id)
    response = Response(status=204)
    end_cookie(response)
    return response


def _whoever() -> Caller | None:
    """The caller. A session that is over keeps nobody from logging in; a forged request does."""
    try:
        return find_caller()
    except ApiError as error:
        if error.status != 401:
            raise
        return None


def _with_token(opened: Opened) -> Response:
    """A browser gets the token as a cookie alone, which no script can read; any other program in the body alone."""
    body = {"user": {"id": str(opened.user_id)}, "expires_at": opened.expires_at.isoformat()}
    if not is_browser():
        return jsonify(**body, token=opened.token)
    response = jsonify(**body)
    set_cookie(response, opened, clock.now())
    return response


def _too_many(error: TooManyAttempts) -> ApiError:
    """The same for an address that is known and for one that is not."""
    log.warning("too-many-log-ins")
    return ApiError(
        429,
        "too-many-attempts",
        "Too many attempts to log in. Wait and try again.",
        {"Retry-After": str(error.seconds)},
    )


def _user(caller: Caller) -> dict[str, Any] | None:
    if caller.user_id is None:
        return None
    return {"id": str(caller.user_id), "is_administrator": caller.is_administrator}
