"""The page itself: it looks, it asks, it does. Everything works without JavaScript."""

import traceback
from datetime import datetime
from typing import Any

import structlog
from flask import Blueprint, current_app, flash, g, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from psycopg2 import errors
from sqlalchemy.exc import DBAPIError, TimeoutError
from werkzeug.exceptions import HTTPException, NotFound

from app import clock
from app.config import Settings
from app.errors import BadArgument
from app.ops import auth, sections, words
from app.ops.actions import ACTIONS, Action
from app.ops.auth import WrongCredentials
from app.ops.kept import Kept
from app.retention.arguments import checked_words

log = structlog.get_logger(__name__)

blueprint = Blueprint("ops", __name__, url_prefix="/ops", template_folder="templates", static_folder="static")
blueprint.context_processor(lambda: {"operator": g.get("operator"), "all_actions": ACTIONS, **words.IN_TEMPLATES})

blueprint.before_request(auth.let_in)

TOO_LONG = (errors.LockNotAvailable, errors.QueryCanceled)
SECONDS_BETWEEN_LOOKS, SECONDS_BETWEEN_LOOKS_AT_REST = 2, 10


@blueprint.get("/", strict_slashes=False)
def page() -> ResponseReturnValue:
    """Everything, the most important first."""
    if "_flashes" in session:  # this browser has just changed something, perhaps through another process than this one
        _kept().forget()
    return render_template("ops/page.html", **_seen())


@blueprint.get("/live")
def live() -> ResponseReturnValue:
    """What of the page refreshes itself."""
    return render_template("ops/live.html", **_seen())


@blueprint.get("/login")
def login() -> ResponseReturnValue:
    """The form; whoever is known already goes on."""
    return redirect(url_for("ops.page"), 303) if g.operator else render_template("ops/login.html")


@blueprint.post("/login")
def log_in() -> ResponseReturnValue:
    """Name and password."""
    try:
        auth.log_in(request.form.get("name", ""), request.form.get("password", ""), clock.now())
    except WrongCredentials:
        return render_template("ops/login.html", wrong=WrongCredentials.__doc__), 401
    return redirect(url_for("ops.page"), 303)


@blueprint.post("/logout")
def log_out() -> ResponseReturnValue:
    """The session is over."""
    auth.log_out()
    return redirect(url_for("ops.login"), 303)


@blueprint.get("/actions/<name>")
def ask(name: str) -> ResponseReturnValue:
    """What the action will do, and its fields, filled in from the link that led here."""
    auth.require_acting()
    action = _action(name)
    given = {field.name: request.args.get(field.name, "") for field in action.fields}
    return render_template("ops/ask.html", action=action, given=given)


@blueprint.post("/actions/<name>")
def act(name: str) -> ResponseReturnValue:
    """Do it, and go back to the page. What can't be done is said in a sentence, and changes nothing."""
    auth.require_acting()
    action = _action(name)
    given = {field.name: request.form.get(field.name, "").strip() for field in action.fields}
    try:
        said = action.do(_complete(action, given), auth.operator().name)
    except BadArgument as error:
        return render_template("ops/ask.html", action=action, given=given, wrong=_capital(str(error))), 422
    except DBAPIError as error:
        if not isinstance(error.orig, TOO_LONG):
            raise
        wrong = "The database took too long, so that nothing was changed. Try again in a minute."
        return render_template("ops/ask.html", action=action, given=given, wrong=wrong), 503
    _kept().forget()
    log.warning("ops-action", action=action.name, by=auth.operator().name)
    flash(said)
    return redirect(url_for("ops.page"), 303)


@blueprint.get("/<path:_anything>")
def nowhere(_anything: str) -> ResponseReturnValue:
    """Nothing is here, for those who may know."""
    raise NotFound


@blueprint.errorhandler(HTTPException)
def _refused(error: HTTPException) -> ResponseReturnValue:
    kept = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    template = "ops/login.html" if error.code == 429 else "ops/refused.html"
    return render_template(template, title=error.name, wrong=error.description), error.code or 500, kept


@blueprint.errorhandler(DBAPIError)
@blueprint.errorhandler(TimeoutError)
def _no_database(error: DBAPIError | TimeoutError) -> ResponseReturnValue:
    cause = getattr(error, "orig", None) or error
    log.error("ops-database-failed", endpoint=request.endpoint, error=type(cause).__name__)
    wrong = "The database can't answer, so that nothing can be shown or was changed. Check that it runs, and try again."
    return render_template("ops/refused.html", title="No answer from the database", wrong=wrong), 503


@blueprint.errorhandler(Exception)
def _unexpected(error: Exception) -> ResponseReturnValue:
    """Where it happened is logged; its text is not, since it may hold what was sent."""
    where = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("ops-failed", endpoint=request.endpoint, error=type(error).__name__, where=where)
    wrong = "Something went wrong on our side. It has been logged."
    return render_template("ops/refused.html", title="An error", wrong=wrong), 500


def _seen() -> dict[str, Any]:
    settings: Settings = current_app.extensions["settings"]
    now: datetime = clock.now()
    page = sections.look(settings, _kept(), now)
    seconds = SECONDS_BETWEEN_LOOKS if page.is_going else SECONDS_BETWEEN_LOOKS_AT_REST
    return {"page": page, "seconds": seconds, "zone": settings.zone}


def _kept() -> Kept:
    kept: Kept = current_app.extensions["ops.kept"]
    return kept


def _action(name: str) -> Action:
    if name not in ACTIONS:
        raise NotFound
    return ACTIONS[name]


def _complete(action: Action, given: dict[str, str]) -> dict[str, str]:
    for field in action.fields:
        if field.is_required and not given[field.name]:
            raise BadArgument(f"{field.label}: this is needed.")
        if given[field.name]:
            _check(field.label, given[field.name])
    return given


def _check(label: str, given: str) -> None:
    try:
        checked_words(given)
    except BadArgument as error:
        raise BadArgument(f"{label}: {error}.") from None


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:] + ("" if sentence.endswith(".") else ".")
