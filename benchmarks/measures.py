"""What a benchmark found, beside what was asked for: the table, and the RESULT line for programs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True)
class Measure:
    """A number and its target: at least, or at most, so much. Without one it informs only.

    `is_count` says that it doesn't wobble (buffers, rows, requests, bytes), so that the small form may judge it.
    """

    name: str
    value: float
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""
    is_count: bool = False

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"

    @property
    def is_missed(self) -> bool:
        too_little = self.at_least is not None and self.value < self.at_least
        return too_little or (self.at_most is not None and self.value > self.at_most)


def missed(measures: Sequence[Measure], *, counts_only: bool) -> list[str]:
    """The names of measures that miss their target; of counts alone, if so asked."""
    return [one.name for one in measures if one.is_missed and (one.is_count or not counts_only)]


def table(measures: Sequence[Measure], *, counts_only: bool) -> Table:
    """Measure, value, target, and whether it was met."""
    made = Table("measure", "value", "target", "")
    made.columns[1].justify = made.columns[2].justify = "right"
    misses = missed(measures, counts_only=counts_only)
    for one in measures:
        is_judged = one.target and (one.is_count or not counts_only)
        verdict = "" if not is_judged else "MISSED" if one.name in misses else "met"
        made.add_row(one.name, shown(one.value, one.unit), one.target, verdict)
    return made


def shown(value: float, unit: str = "") -> str:
    """Three digits that count, and thousands apart."""
    digits = 0 if float(value).is_integer() or abs(value) >= 100 else 1 if abs(value) >= 10 else 3
    return f"{value:,.{digits}f} {unit}".strip()


def result_line(name: str, measures: Sequence[Measure], *, counts_only: bool) -> str:
    """`RESULT {…}`, the last line of a benchmark."""
    found = {
        "name": name,
        "measures": {one.name: round(one.value, 4) for one in measures},
        "missed": missed(measures, counts_only=counts_only),
    }
    return "RESULT " + json.dumps(found, ensure_ascii=False)
