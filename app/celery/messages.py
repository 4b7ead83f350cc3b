"""What a message of ours looks like. Whoever can write to the broker can write anything else, too.

A message names a task, and has an id, an instant before which it does not begin, and arguments; what else Celery's
protocol knows is checked for its type and goes no further. A message that is not like that is refused: it is
acknowledged, counted and logged without anything of its content, and does not come back.
"""

from collections.abc import Callable, Container, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app import clock
from app.dao.totals_dao import WHY_REFUSED

MOST_BYTES = 64 * 1024
"""Of a body; ours are below 1 KiB."""

ENVELOPE, HEADERS, BODY, UNKNOWN_TASK, TOO_LATE, ARGUMENTS = WHY_REFUSED
WHY = {
    ENVELOPE: "it is not a message of Celery's, in JSON",
    HEADERS: "its headers are not those of a task",
    BODY: "its body is not the arguments of a task, and nothing else",
    UNKNOWN_TASK: "there is no task of its name",
    TOO_LATE: "it is to wait for longer than any message of ours",
    ARGUMENTS: "its arguments are not those of its task",
}
"""Why a message is refused, by the code that it is counted under."""

INTERVAL = "interval_seconds"
"""The header of a periodic message, with the seconds until the next; app/celery/periodic.py."""


class Refused(Exception):
    """A message is not one of ours; `code` says in what."""

    def __init__(self, code: str) -> None:
        super().__init__(WHY[code])
        self.code = code


def headers_of(message: Any, tasks: Container[str], longest_wait: timedelta) -> dict[str, Any]:
    """The headers that a worker goes by, of a message that is one of ours. Raises Refused.

    `message` is kombu's, `tasks` are the names of those that there are.
    """
    if message.errors or (message.content_type, message.content_encoding) != ("application/json", "utf-8"):
        raise Refused(ENVELOPE)
    given = message.headers
    if not isinstance(given, Mapping) or not all(is_one(given.get(name)) for name, is_one in HEADERS_BY_NAME.items()):
        raise Refused(HEADERS)
    if given["task"] not in tasks:
        raise Refused(UNKNOWN_TASK)
    begins = given.get("eta") and _instant(given["eta"])
    now = clock.now()
    if begins and begins > now + longest_wait:
        raise Refused(TOO_LATE)
    _check_body(message)
    return {
        "task": given["task"],
        "id": given["id"],
        "eta": begins.isoformat() if begins and begins > now else None,
        INTERVAL: given.get(INTERVAL),
    }


def _check_body(message: Any) -> None:
    if not isinstance(message.body, str | bytes | bytearray | memoryview) or len(message.body) > MOST_BYTES:
        raise Refused(BODY)
    try:
        body = message.decode()
    except Exception:  # a decoder of what anybody may have written fails in any way
        raise Refused(BODY) from None
    if not (isinstance(body, list) and [type(part) for part in body] == [list, dict, dict]):
        raise Refused(BODY)
    if any(body[2].values()):  # tasks that are to follow, which ours send themselves
        raise Refused(BODY)
    # None of ours takes such an argument, and one that is nested deeply can't be handed to the pool: the error would
    # cost the pool a place for good, and after a few of them the worker takes nothing any more.
    if any(isinstance(value, list | dict) for value in (*body[0], *body[1].values())):
        raise Refused(BODY)


def _instant(text: str) -> datetime | None:
    """An aware time; None for what is none, or is one that the calendar can't tell in UTC."""
    try:
        return clock.as_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_id(value: object) -> bool:
    try:
        return str(UUID(value)) == value  # type: ignore[arg-type]
    except (ValueError, AttributeError, TypeError):
        return False


def _is_instant(value: object) -> bool:
    return isinstance(value, str) and _instant(value) is not None


def _is_limits(value: object) -> bool:
    """A soft and a hard limit. A setting may be a fraction of a second: 300.0 is one, too."""
    return isinstance(value, list | tuple) and len(value) == 2 and all(one is None or _is_seconds(one) for one in value)


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= SECONDS_A_DAY


def _is_interval(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= SECONDS_A_DAY


def _or_none(is_one: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or is_one(value)


SECONDS_A_DAY = 24 * 60 * 60
HEADERS_BY_NAME: dict[str, Callable[[object], bool]] = {
    "task": _is_text,
    "id": _is_id,
    "eta": _or_none(_is_instant),
    "expires": _or_none(_is_instant),
    "retries": _or_none(_is_count),
    "timelimit": _or_none(_is_limits),
    "shadow": _or_none(_is_text),
    "group": _or_none(_is_text),
    "group_index": _or_none(_is_count),
    "root_id": _or_none(_is_text),
    "parent_id": _or_none(_is_text),
    "lang": _or_none(_is_text),
    "origin": _or_none(_is_text),
    "argsrepr": _or_none(_is_text),
    "kwargsrepr": _or_none(_is_text),
    "ignore_result": _or_none(lambda value: isinstance(value, bool)),
    "replaced_task_nesting": _or_none(_is_count),
    "stamped_headers": _or_none(lambda value: isinstance(value, list)),
    "stamps": _or_none(lambda value: isinstance(value, dict)),
    INTERVAL: _or_none(_is_interval),
}
