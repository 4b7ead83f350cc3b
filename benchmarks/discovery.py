"""Finding the services that have something overdue: a probe of the index for each, against DISTINCT."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from flask import Flask

from app import clock
from app.db import db
from app.retention import nightly
from benchmarks import connections, reference
from benchmarks.bench import Bench
from benchmarks.measures import Measure, shown
from benchmarks.methods import median
from benchmarks.product import product

ROUNDS = 5
TYPES = ("email", "sms", "letter")
BUFFERS = "SELECT sum(shared_blks_hit + shared_blks_read)::bigint FROM pg_stat_statements WHERE query LIKE %(like)s"
# Everything that is overdue, as after a night that moved it all: the entries of the indexes stay until a vacuum.
DRAIN = "DELETE FROM notifications WHERE created_at < %(cutoff)s"
# Both methods' drains end with a choice that finds nothing, which marks the dead entries that it walks over.
LAST_CHOICES = """
SELECT count(last.id) FROM services AS s, unnest(enum_range(NULL::notification_type)) AS type (name), LATERAL (
    SELECT n.id FROM notifications AS n
    WHERE n.service_id = s.id AND n.notification_type = type.name AND n.created_at < %(cutoff)s
    ORDER BY n.created_at LIMIT 1
) AS last
"""


@dataclass
class Looks:
    """What a method needed for all types, round by round."""

    seconds: list[float] = field(default_factory=list)
    buffers: list[int] = field(default_factory=list)
    found: int = 0

    def shown(self) -> list[str]:
        """Services found; milliseconds, first and median; buffers, first and last."""
        milliseconds = [1000 * seconds for seconds in (self.seconds[0], median(self.seconds))]
        return [shown(value) for value in (self.found, *milliseconds, self.buffers[0], self.buffers[-1])]


def run(bench: Bench) -> list[Measure]:
    cutoff = bench.platform.cutoff
    with ExitStack() as ends:
        # A database for each: whoever looks first would mark the dead entries for the other.
        theirs, ours = (ends.enter_context(bench.copy(name)) for name in ("distinct", "ours"))
        app = ends.enter_context(product(ours))
        both = [ends.enter_context(connections.owner(url)) for url in (theirs, ours)]
        before = _interleaved(both, app, cutoff)
        bench.say("draining everything overdue, without a vacuum")
        for connection in both:
            connections.run(connection, DRAIN, {"cutoff": clock.to_column(cutoff)})
            connections.run(connection, LAST_CHOICES, {"cutoff": clock.to_column(cutoff)})
        after = _interleaved(both, app, cutoff)
    table = [
        [when, name, *looks.shown()]
        for when, of in (("a night's start", before), ("after a drain", after))
        for name, looks in of.items()
    ]
    columns = ["", "method", "found", "first, ms", "median, ms", "buffers, first", "buffers, last"]
    bench.show("services with something overdue, all three types", columns, table)
    return [
        Measure("DISTINCT over ours, at a night's start", _times(before), at_least=15),
        Measure("DISTINCT over ours, after a drain without vacuum", _times(after), at_least=30),
        Measure(
            "ours, buffers a service and type",
            before["ours"].buffers[-1] / len(TYPES) / len(bench.platform.services),
            at_most=6,
            is_count=True,
        ),
    ]


def _times(both: dict[str, Looks]) -> float:
    return median(both["DISTINCT"].seconds) / median(both["ours"].seconds)


def _interleaved(watched: list[Any], app: Flask, cutoff: Any) -> dict[str, Looks]:
    both = {"DISTINCT": Looks(), "ours": Looks()}

    def distinct(notification_type: str) -> int:
        return reference.discover(watched[0], notification_type, cutoff)

    def ours(notification_type: str) -> int:
        settings = app.extensions["settings"]
        night = clock.local_date(clock.now(), settings.zone)
        with app.app_context(), db.transaction() as own:
            return len(nightly.find_overdue(own, settings, notification_type, night))

    asked: dict[str, tuple[Callable[[str], int], str]] = {
        "DISTINCT": (distinct, "%SELECT DISTINCT service_id%"),
        "ours": (ours, "%services AS s%"),
    }
    for number in range(ROUNDS):
        for name in list(both) if number % 2 else list(both)[::-1]:
            _look(watched[list(both).index(name)], both[name], *asked[name])
    return both


def _look(connection: Any, looks: Looks, ask: Callable[[str], int], like: str) -> None:
    connections.run(connection, "SELECT pg_stat_statements_reset()")
    began = perf_counter()
    looks.found = sum(ask(notification_type) for notification_type in TYPES)
    looks.seconds.append(perf_counter() - began)
    looks.buffers.append(connections.scalar(connection, BUFFERS, {"like": like}))
