"""Bars a night, as plain numbers for an SVG in the page: no script, and no style that the policy would refuse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from app.dao.ops_page_dao import Night

NIGHTS = 30
WIDTH, HEIGHT = 360, 150
LEFT, RIGHT, TOP, BOTTOM = 44, 6, 12, 22
GAP_SHARE = 0.25


@dataclass(frozen=True)
class Bar:
    """A night's bar. All four are in the SVG's own units."""

    x: float
    y: float
    width: float
    height: float
    says: str


@dataclass(frozen=True)
class Label:
    """A word of the chart and where it stands."""

    x: float
    y: float
    text: str
    anchor: str


@dataclass(frozen=True)
class Chart:
    """One measure over the nights. `lines` are the heights of the scale's lines."""

    name: str
    title: str
    summary: str
    bars: list[Bar]
    lines: list[float]
    labels: list[Label]
    total: int
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT


@dataclass(frozen=True)
class History:
    """The charts, and the same nights as a table, the latest first."""

    charts: list[Chart]
    nights: list[Night]


def history(nights: Sequence[Night], last: date) -> History:
    """Charts of the nights up to `last`; a night without work is a gap."""
    by_night = {night.night: night for night in nights}
    days = [last - timedelta(days=ago) for ago in reversed(range(NIGHTS))]
    moved = {day: by_night[day].moved + by_night[day].deleted for day in days if day in by_night}
    files = {day: by_night[day].files_deleted for day in days if day in by_night}
    charts = [_chart("rows", "Rows moved or deleted", moved, days), _chart("files", "Files deleted", files, days)]
    return History(charts, [by_night[day] for day in reversed(days) if day in by_night])


def _chart(name: str, title: str, values: Mapping[date, int], days: Sequence[date]) -> Chart:
    top = _round_up(max(values.values(), default=0))
    place = (WIDTH - LEFT - RIGHT) / len(days)
    room = HEIGHT - TOP - BOTTOM
    bars = []
    for number, day in enumerate(days):
        value = values.get(day, 0)
        height = room * value / top
        if value:
            x = LEFT + (number + GAP_SHARE / 2) * place
            says = f"{day:%d %b}: {value:,}"
            bars.append(
                Bar(
                    round(x, 2),
                    round(TOP + room - height, 2),
                    round(place * (1 - GAP_SHARE), 2),
                    round(height, 2),
                    says,
                )
            )
    lines = [TOP + room * share for share in (0, 0.5, 1)]
    labels = [Label(LEFT - 5, y + 3.5, short(top * share), "end") for y, share in zip(lines, (1, 0.5, 0), strict=True)]
    labels += [
        Label(LEFT, HEIGHT - 6, f"{days[0]:%d %b}", "start"),
        Label(LEFT + (len(days) // 2 + 0.5) * place, HEIGHT - 6, f"{days[len(days) // 2]:%d %b}", "middle"),
        Label(WIDTH - RIGHT, HEIGHT - 6, f"{days[-1]:%d %b}", "end"),
    ]
    total = sum(values.values())
    busiest = max(values, key=lambda day: values[day], default=None)
    summary = f"{total:,} in {NIGHTS} nights"
    if busiest is not None and total:
        summary += f", the most, {values[busiest]:,}, in the night of {busiest:%d %B}"
    return Chart(name, title, summary + ".", bars, lines, labels, total)


def _round_up(value: int) -> int:
    """The least of 2, 4, 10, 20, 40, … that is not below the value: half of it is whole, too."""
    scale = 1
    while True:
        for first in (2, 4, 10):
            if first * scale >= value:
                return first * scale
        scale *= 10


def short(value: float) -> str:
    """A number of the scale: 1500 is 1.5k."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
