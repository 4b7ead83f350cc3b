"""What a refused request gets: a status, and JSON with a code for programs and a sentence for people."""

import traceback
from collections.abc import Mapping

import structlog
from flask import Flask, Response, jsonify, request
from psycopg2 import errors
from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError
from werkzeug.exceptions import HTTPException

from app.accounts.errors import AccountError, UnknownUser
from app.db import ClocksApart
from app.observability.error_reports import report

log = structlog.get_logger(__name__)

SECONDS_TO_RETRY_AFTER = 5
# A lock or a statement took too long, or the server is going down or away (no code).
BUSY = (errors.LockNotAvailable, errors.QueryCanceled, errors.AdminShutdown, errors.DeadlockDetected)


class ApiError(Exception):
    """A request is refused."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


def register(app: Flask) -> None:
    """Every error of the application, whoever raises it, is answered as JSON."""
    app.register_error_handler(ApiError, _refused)
    app.register_error_handler(AccountError, _account_refused)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(DBAPIError, _database)
    app.register_error_handler(ClocksApart, _unavailable)
    app.register_error_handler(TimeoutError, _unavailable)  # no connection of the pool became free
    app.register_error_handler(Exception, _unexpected)


def _answer(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    response = jsonify(code=code, message=message)
    response.status_code = status
    response.headers.extend(dict(headers or {}))
    return response


def _refused(error: ApiError) -> Response:
    return _answer(error.status, error.code, error.message, error.headers)


def _account_refused(error: AccountError) -> Response:
    return _answer(404 if isinstance(error, UnknownUser) else 409, error.code, str(error))


def _http(error: HTTPException) -> Response:
    """What Flask itself refuses: no such page, a method that is not allowed, a body that is too large."""
    code = error.name.lower().replace(" ", "-")
    kept = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    return _answer(error.code or 500, code, str(error.description), kept)


def _database(error: DBAPIError) -> Response:
    is_away = isinstance(error, OperationalError) and getattr(error.orig, "pgcode", None) is None
    return _unavailable(error) if is_away or isinstance(error.orig, BUSY) else _unexpected(error)


def _unavailable(error: Exception) -> Response:
    cause = getattr(error, "orig", None) or error
    log.warning("request-not-possible-now", endpoint=request.endpoint, error=type(cause).__name__)
    retry = {"Retry-After": str(SECONDS_TO_RETRY_AFTER)}
    return _answer(503, "unavailable", "The database can't answer just now. Nothing was changed; try again.", retry)


def _unexpected(error: Exception) -> Response:
    """Where it happened is logged and reported; its text is not, since it may hold what was sent."""
    report(error)
    where = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("request-failed", endpoint=request.endpoint, error=type(error).__name__, where=where)
    return _answer(500, "internal-error", "Something went wrong on our side. It has been logged.")
