"""What becomes of values that are copied into a column of another type: some lose a part of themselves and nothing says
so, some are refused, which stops their chain. Enums are not here: that is a question of words.
"""

import re
from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from app.dao.catalogue import NUMBERS, STRINGS, Type

SILENTLY = "and nothing says so"
STOPS = "stops its chain"


class Digits(NamedTuple):
    """Decimal digits of a number: before the point, after it, and from the first that is not 0 to the last."""

    before: float
    after: float
    together: float


FLOATS = ("float4", "float8")
HAS = {
    "int2": Digits(5, 0, 5),
    "int4": Digits(10, 0, 10),
    "int8": Digits(19, 0, 19),
    "float4": Digits(39, inf, 9),
    "float8": Digits(309, inf, 17),
}
"""The most that a number of the type can have."""
KEEPS = {
    "int2": Digits(4, 0, inf),
    "int4": Digits(9, 0, inf),
    "int8": Digits(18, 0, inf),
    "float4": Digits(38, inf, 6),
    "float8": Digits(308, inf, 15),
}
"""What any number may have and still be kept by the type."""
OF_MICROSECONDS = 6

LENGTHS = {"bool": 5, "int2": 6, "int4": 11, "int8": 20, "uuid": 36, "name": 63}
"""The longest text of a type's values; of others it is not known."""

BY_PAIR = {
    ("bool", "int4"): "",
    ("date", "timestamp"): "",
    ("timestamp", "date"): f"the time of day is lost, {SILENTLY}",
}
"""Casts between types of different kinds; empty: every value is kept."""
NOT_KNOWN = "whether the cast keeps every value is not known"


def harms(source: Type, target: Type) -> Iterator[str]:
    """What can happen to values of `source` in a column of `target`, a sentence each; none: every value is kept."""
    if (source.base, source.formatted) == (target.base, target.formatted) or target.is_enum:
        return
    if target.is_domain:
        yield f"a value that {target.formatted} refuses {STOPS}"
    if target.name in STRINGS:
        yield from _as_text(source, target)
    elif source.name in STRINGS:
        yield f"a text that is no {target.formatted} {STOPS}"
    elif source.name in NUMBERS and target.name in NUMBERS:
        yield from _as_number(source, target)
    elif source.base != target.base:
        harm = BY_PAIR.get((source.name, target.name), NOT_KNOWN)
        yield from [harm] if harm else []
    elif source.name.startswith("time"):
        yield from _as_time(source, target)
    elif not target.is_domain and not source.is_domain:
        yield NOT_KNOWN


def _as_text(source: Type, target: Type) -> Iterator[str]:
    if target.name == "name":
        yield f"a text keeps its first {LENGTHS['name']} bytes, {SILENTLY}"
    elif _length(source) > _length(target):
        yield f"a longer value {STOPS}"


def _length(of: Type) -> float:
    if of.labels:
        return max(len(label) for label in of.labels)
    given = _modifiers(of) if of.name in STRINGS else ()
    return given[0] if given else LENGTHS.get(of.name, inf)


def _as_number(source: Type, target: Type) -> Iterator[str]:
    has, keeps = HAS.get(source.name) or _of_numeric(source), KEEPS.get(target.name) or _of_numeric(target)
    together = keeps.together
    if target.name == "numeric":  # it would keep them all, but of a float it is given only those that are sure
        together = KEEPS[source.name].together if source.name in FLOATS else inf
    if has.after > keeps.after:
        rounded = f"to {keeps.after} digits after the point" if keeps.after else "to a whole one"
        yield f"a number is rounded {rounded}, {SILENTLY}"
    elif has.together > together:
        yield f"a number keeps its first {together} digits, {SILENTLY}"
    if has.before > keeps.before:
        yield f"a number that is too large for {target.formatted} {STOPS}"


def _of_numeric(of: Type) -> Digits:
    """`numeric(10,2)`; PostgreSQL writes the scale even where nobody gave one."""
    given = _modifiers(of)
    return Digits(given[0] - given[1], given[1], given[0]) if given else Digits(inf, inf, inf)


def _as_time(source: Type, target: Type) -> Iterator[str]:
    had, kept = (given[0] if (given := _modifiers(of)) else OF_MICROSECONDS for of in (source, target))
    if had > kept:
        yield f"fractions of a second are rounded to {kept} digits, {SILENTLY}"


def _modifiers(of: Type) -> tuple[int, ...]:
    """The numbers in the type's parentheses."""
    found = re.search(r"\((-?\d+(?:,-?\d+)*)\)", of.formatted)
    return tuple(map(int, found[1].split(","))) if found else ()
