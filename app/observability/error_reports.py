"""Reports of errors to Sentry. They say what kind of error it was and where, and never what it was about.

What an event may hold is a list: kinds of errors, places in the code, names of tasks and endpoints, SQL without its
values. An error's text is not on it, since a database quotes rows and a library what it was given.
"""

import re
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from app.config import Settings

if TYPE_CHECKING:
    from sentry_sdk.types import Breadcrumb, BreadcrumbHint, Event, Hint

SECONDS_TO_FLUSH = 2.0
KEPT_OF_EVENT = frozenset(
    {"event_id", "timestamp", "level", "platform", "transaction", "release", "environment", "server_name", "sdk"}
)
KEPT_OF_EXCEPTION = frozenset({"type", "module", "mechanism", "stacktrace"})
KEPT_OF_FRAME = frozenset(
    {"filename", "abs_path", "function", "module", "lineno", "in_app", "context_line", "pre_context", "post_context"}
)
KEPT_OF_MECHANISM = frozenset({"type", "handled"})
KEPT_CONTEXTS = frozenset({"runtime", "trace"})
KEPT_TAGS = frozenset({"celery_task_id"})
KEPT_OF_BREADCRUMB = frozenset({"category", "message", "timestamp", "level", "type"})
QUERY = "query"

EMAIL_ADDRESS = re.compile(r"[^\s@'\"<>()]+@[^\s@'\"<>()]+\.[A-Za-z]{2,}")
PHONE_NUMBER = re.compile(r"(?<![\w-])(?:\+|00|0)\d(?:[ ().-]?\d){8,14}(?![\w-])")
MASK = "[masked]"

_sdk: ModuleType | None = None
"""Sentry's own, which is 7 MB: in processes that report."""


def set_up(settings: Settings) -> None:
    """Report this process's errors, if the settings say where to. Again in each process that was forked."""
    global _sdk
    if settings.sentry_dsn is None:
        return
    import sentry_sdk
    from sentry_sdk.integrations.argv import ArgvIntegration
    from sentry_sdk.integrations.celery import CeleryIntegration
    from sentry_sdk.integrations.flask import FlaskIntegration
    from sentry_sdk.integrations.logging import LoggingIntegration
    from sentry_sdk.integrations.modules import ModulesIntegration
    from sentry_sdk.integrations.sqlalchemy import SqlalchemyIntegration
    from sentry_sdk.integrations.stdlib import StdlibIntegration

    _sdk = sentry_sdk
    sentry_sdk.init(
        dsn=settings.sentry_dsn.get_secret_value(),
        environment=settings.sentry_environment,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        auto_enabling_integrations=False,
        integrations=[FlaskIntegration(), CeleryIntegration(), SqlalchemyIntegration()],
        # Log lines, command lines, and the addresses of HTTP requests, which name files.
        disabled_integrations=[
            LoggingIntegration(),
            ArgvIntegration(),
            ModulesIntegration(),
            StdlibIntegration(),
        ],
        before_send=scrubbed,
        before_breadcrumb=scrubbed_breadcrumb,
    )


def report(error: BaseException) -> None:
    """Report an error that was dealt with. Nothing, where errors are not reported."""
    if _sdk is not None:
        _sdk.capture_exception(error)


def flush() -> None:
    """Send what is waiting, before the process ends."""
    if _sdk is not None:
        _sdk.flush(SECONDS_TO_FLUSH)


def scrubbed(event: "Event", _hint: "Hint") -> "Event":
    """The event with what is on the list, and nothing else."""
    given: Mapping[str, Any] = dict(event)
    kept = _only(given, KEPT_OF_EVENT)
    kept["exception"] = {"values": [_exception(one) for one in given.get("exception", {}).get("values", [])]}
    kept["contexts"] = _only(given.get("contexts", {}), KEPT_CONTEXTS)
    kept["tags"] = _only(given.get("tags", {}), KEPT_TAGS)
    crumbs = given.get("breadcrumbs", {})
    kept["breadcrumbs"] = {"values": crumbs.get("values", []) if isinstance(crumbs, Mapping) else []}
    made: Event = masked(kept)
    return made


def scrubbed_breadcrumb(crumb: "Breadcrumb", _hint: "BreadcrumbHint") -> "Breadcrumb | None":
    """Statements of ours, whose values are bound and so not in them; nothing else that happened before."""
    return masked(_only(crumb, KEPT_OF_BREADCRUMB)) if crumb.get("category") == QUERY else None


def masked(value: Any) -> Any:
    """The value without what looks like an email address or a telephone number, however deep."""
    if isinstance(value, str):
        return PHONE_NUMBER.sub(MASK, EMAIL_ADDRESS.sub(MASK, value))
    if isinstance(value, Mapping):
        return {key: masked(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(inner) for inner in value]
    return value


def _exception(given: Mapping[str, Any]) -> dict[str, Any]:
    kept = _only(given, KEPT_OF_EXCEPTION)
    kept["mechanism"] = _only(given.get("mechanism") or {"type": "generic"}, KEPT_OF_MECHANISM)
    frames = (given.get("stacktrace") or {}).get("frames", [])
    kept["stacktrace"] = {"frames": [_only(frame, KEPT_OF_FRAME) for frame in frames]}
    return kept


def _only(given: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in names}
