"""Whether a redaction makes its policy's condition false, so that no row is chosen for ever. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from app.policies.forms import Change, Condition, Entry

MET: Mapping[str, Callable[[Any, tuple[Any, ...]], bool]] = {
    "equal": lambda value, given: value == given[0],
    "differs": lambda value, given: value != given[0],
    "one_of": lambda value, given: value in given,
    "none_of": lambda value, given: value not in given,
    "above": lambda value, given: value > given[0],
    "below": lambda value, given: value < given[0],
}


def ends(entry: Entry) -> bool:
    """Whether a row that was redacted is no longer due: a condition is false, or its age is gone or is now."""
    changes = entry.then.redact or {}
    return any(
        _makes_false(change, entry.where[column]) for column, change in changes.items() if column in entry.where
    ) or any(_renews(change, entry.age, column) for column, change in changes.items())


def _makes_false(change: Change, condition: Condition) -> bool:
    """What is not known to be false is taken for true."""
    if condition.operator == "is_set":
        return {"null": condition.is_set is True, "column": False}.get(change.kind, condition.is_set is False)
    if change.kind == "null":
        return True  # no comparison with NULL is met
    if change.kind != "to":
        return False
    try:
        return not MET[condition.operator](change.to, condition.values)
    except TypeError:
        return False


def _renews(change: Change, age: tuple[str, ...], column: str) -> bool:
    """The first column that is set counts: only that of a single one may become NULL."""
    if change.kind == "now":
        return column == age[0]
    return change.kind == "null" and age == (column,)
