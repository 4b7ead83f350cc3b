"""How far past its retention the oldest notification is: what asking costs, and what all of `/metrics` costs.

Three states of one table, by the default retention that the product is told: three weeks' backlog, one night's rows,
and nothing but of the services that have a retention of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from app.retention import overdue
from benchmarks import connections
from benchmarks.bench import Bench
from benchmarks.measures import Measure, shown
from benchmarks.methods import median
from benchmarks.platform import DAYS, DAYS_OF_RETENTION
from benchmarks.product import product

ROUNDS = 5
TYPES = 3
TOKEN = "of a benchmark, and long enough"  # noqa: S105 - there is nothing behind it
STATES = {
    "three weeks' backlog": DAYS_OF_RETENTION,
    "a night's start": DAYS - 1,
    "next to nothing": DAYS,
}
BUFFERS = "SELECT sum(shared_blks_hit + shared_blks_read)::bigint FROM pg_stat_statements"


@dataclass(frozen=True)
class Cost:
    """Of one state: services and types found, the longest and the median look, its buffers, a scrape, whether whole."""

    found: int
    first: float
    seconds: float
    buffers: int
    scrape: float
    is_whole: bool

    def shown(self, services: int) -> list[str]:
        """Milliseconds, but for what was found and what was read."""
        milliseconds = (1000 * self.first, 1000 * self.seconds, 1000 * self.seconds / services)
        whole = shown(1000 * self.scrape) if self.is_whole else "too long"
        return [shown(self.found), *map(shown, milliseconds), shown(self.buffers / services / TYPES), whole]


def run(bench: Bench) -> list[Measure]:
    services = len(bench.platform.services)
    with bench.copy("overdue") as url, connections.owner(url) as connection:
        costs = {state: _cost(url, connection, days) for state, days in STATES.items()}
    columns = ["", "found", "first, ms", "median, ms", "ms a service", "buffers a service and type", "/metrics, ms"]
    rows = [[state, *cost.shown(services)] for state, cost in costs.items()]
    bench.show(f"what is overdue, of {services:,} services and three types", columns, rows)
    backlog, _, nothing = costs.values()
    return [
        Measure("three weeks' backlog, ms a service", 1000 * backlog.seconds / services, at_most=5),
        Measure(
            "next to nothing, buffers a service and type",
            nothing.buffers / services / TYPES,
            at_most=100,
            is_count=True,
        ),
    ]


def _cost(url: str, connection: Any, days: int) -> Cost:
    with product(url, retention_default_days=days, metrics_token=TOKEN, metrics_kept_seconds=0) as app:
        client, headers = app.test_client(), {"Authorization": f"Bearer {TOKEN}"}
        with app.app_context():
            connections.run(connection, "SELECT pg_stat_statements_reset()")
            state, first = _timed(overdue.measure)
            buffers = connections.scalar(connection, BUFFERS)
            seconds = median([_timed(overdue.measure)[1] for _ in range(ROUNDS)])
        page, scrape = _timed(lambda: client.get("/metrics", headers=headers))
        assert page.status_code == 200, page.status
    is_whole = 'retention_scrape_errors{part="overdue"} 0.0' in page.text
    return Cost(len(state.overdue), first, seconds, buffers, scrape, is_whole)


def _timed(look: Callable[[], Any]) -> tuple[Any, float]:
    began = perf_counter()
    found = look()
    return found, perf_counter() - began
