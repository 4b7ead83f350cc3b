"""Dead sessions: the usual batches of 1,000 with OR, ours, and a rebuild; what a batch reads; when a rebuild pays.

2.6 million dead rows and 9 living ones of a user are what a real site had after 30 days without a clean-up. All methods
work on the same tables and indexes, in one session each, with autovacuum off.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from time import perf_counter
from typing import Any

from app import clock
from app.accounts import session_cleanup, session_rebuild
from benchmarks import connections
from benchmarks.bench import Bench
from benchmarks.measures import Measure, shown
from benchmarks.product import product
from dev.product import migrate

DEAD, LIVING = 2_600_000, 9
FEW_DEAD = 10_000
ROWS_OF_A_SHARE = 500_000
SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)
USERS = 1_000
USUAL_BATCH, OUR_BATCH = 1_000, 5_000  # ours is the setting's default
LONGEST_LOCK_SECONDS = 600

FILL_USERS = """
INSERT INTO users (id, name, email_address, state, created_at)
SELECT gen_random_uuid(), 'Person', i || '@example.org', 'active', now() FROM generate_series(1, %(users)s) AS i
"""
# Anonymous ones over the last 30 days, in the order of their creation, as a live table gets them.
FILL_DEAD = """
INSERT INTO user_sessions (id, token_hash, user_id, created_at, expires_at, data)
SELECT gen_random_uuid(), uuid_send(gen_random_uuid()), NULL, at, at + interval '1 day', '{"csrf": "0123456789abcdef"}'
FROM generate_series(1, %(rows)s) AS i,
     LATERAL (SELECT %(now)s::timestamptz - interval '31 days' + i * interval '29 days' / %(rows)s AS at) AS made
"""
FILL_LIVING = """
INSERT INTO user_sessions (id, token_hash, user_id, created_at, expires_at)
SELECT gen_random_uuid(), uuid_send(gen_random_uuid()), ids[1 + i %% cardinality(ids)], %(now)s,
       %(now)s + interval '30 days'
FROM generate_series(1, %(rows)s) AS i, (SELECT array_agg(id) AS ids FROM users) AS everybody
"""
USUAL = """
DELETE FROM user_sessions WHERE id IN (
    SELECT id FROM user_sessions
    WHERE expires_at < %(now)s OR (user_id IS NULL AND created_at < %(now)s - interval '1 day')
    LIMIT %(batch)s
)
"""
BUFFERS = """
SELECT sum(shared_blks_hit + shared_blks_read)::bigint FROM pg_stat_statements
WHERE query LIKE '%DELETE FROM user_sessions%'
"""
COUNT = "SELECT count(*) FROM user_sessions"
SIZE = "SELECT pg_total_relation_size('user_sessions')"


@dataclass(frozen=True)
class Drained:
    """What a method needed; buffers and seconds by batch, where there are batches."""

    seconds: float
    left: int
    megabytes: float
    buffers: list[int]
    batch_seconds: list[float]

    @property
    def longest(self) -> float:
        return max(self.batch_seconds)


Drain = Callable[[str, Any], tuple[list[int], list[float]]]


def run(bench: Bench) -> list[Measure]:
    dead = int(DEAD * bench.scale)
    bench.say(f"filling {dead:,} dead and {LIVING} living sessions")
    many = _filled(bench, "sessions_many", dead, LIVING)
    drained = {}
    for name, drain in {"usual": _usual, "ours": _ours, "rebuild": _rebuild}.items():
        bench.say(f"draining: {name}")
        drained[name] = _measured(bench, many, name, drain)
        assert drained[name].left == LIVING
    few = _filled(bench, "sessions_few", int(FEW_DEAD * max(bench.scale, 0.5)), LIVING)
    drained_few = {name: _measured(bench, few, f"few_{name}", drain) for name, drain in FEW.items()}
    bench.drop_database(many)
    bench.drop_database(few)
    _show(bench, dead, drained)
    shares = _shares(bench)
    return [*_measures(drained, drained_few), *shares]


def _measures(many: dict[str, Drained], few: dict[str, Drained]) -> list[Measure]:
    usual, ours, rebuilt = many["usual"], many["ours"], many["rebuild"]
    first, last = ours.buffers[0], ours.buffers[-2]  # the last one is not whole
    whole = ours.batch_seconds[:-1]
    first_ten, last_ten, of_few = whole[:10], whole[-10:], few["ours"].batch_seconds
    return [
        Measure("the usual's time over ours", usual.seconds / ours.seconds, at_least=2),
        Measure(
            "the usual's time over a rebuild's",
            usual.seconds / rebuilt.seconds,
            at_least=20,
        ),
        Measure("our time over a rebuild's", ours.seconds / rebuilt.seconds),
        Measure(
            "buffers of our batch, many dead over few",
            first / few["ours"].buffers[0],
            at_most=1.1,
            is_count=True,
        ),
        Measure(
            "buffers of our batch, last over first",
            last / first,
            at_most=1.1,
            is_count=True,
        ),
        Measure(
            "buffers of the usual batch, last over first",
            usual.buffers[-2] / usual.buffers[0],
            is_count=True,
        ),
        *(
            Measure(f"ms of our batch, {what}", _milliseconds(one), unit="ms")
            for what, one in {"first ten of many dead": first_ten, "last ten": last_ten, "few dead": of_few}.items()
        ),
        Measure("ms of our batch, last ten over first ten", _milliseconds(last_ten) / _milliseconds(first_ten)),
        Measure("buffers of our batch a row", first / OUR_BATCH, is_count=True),
        Measure(
            "megabytes left, drain over rebuild",
            ours.megabytes / rebuilt.megabytes,
            is_count=True,
        ),
    ]


def _milliseconds(seconds: list[float]) -> float:
    """Of the middle one, which a checkpoint or another process does not move."""
    return median(seconds) * 1000


def _show(bench: Bench, dead: int, drained: dict[str, Drained]) -> None:
    usual = drained["usual"].seconds
    rows = [
        [
            name,
            shown(one.seconds),
            f"{usual / one.seconds:.1f} times",
            shown(dead / one.seconds),
            shown(one.longest),
            shown(one.megabytes),
        ]
        for name, one in drained.items()
    ]
    columns = [
        "method",
        "s",
        "as fast as usual",
        "rows/s",
        "longest transaction, s",
        "MB left",
    ]
    bench.show(f"draining {dead:,} dead sessions", columns, rows)


def _shares(bench: Bench) -> list[Measure]:
    """Drain and rebuild at several shares of dead rows."""
    total = int(ROWS_OF_A_SHARE * bench.scale)
    rows, ratios = [], {}
    for share in SHARES:
        dead = round(total * share)
        name = _filled(bench, "sessions_share", dead, total - dead)
        ours, rebuilt = (_measured(bench, name, way, drain) for way, drain in SHARED.items())
        bench.drop_database(name)
        assert ours.left == rebuilt.left == total - dead
        ratios[share] = ours.seconds / rebuilt.seconds
        figures = (
            ours.seconds,
            rebuilt.seconds,
            ratios[share],
            rebuilt.longest,
            ours.megabytes,
            rebuilt.megabytes,
        )
        rows.append([f"{share:.0%}", *map(shown, figures)])
    columns = [
        "dead",
        "drain, s",
        "rebuild, s",
        "ratio",
        "lock, s",
        "MB after drain",
        "MB after rebuild",
    ]
    bench.show(f"{total:,} sessions, drained and rebuilt", columns, rows)
    return [Measure(f"our time over a rebuild's at {share:.0%} dead", ratio) for share, ratio in ratios.items()]


def _filled(bench: Bench, name: str, dead: int, living: int) -> str:
    """The name of a migrated database with so many sessions. Nothing may stay connected to it."""
    url = bench.empty_database(name)
    migrate(url)
    with connections.owner(url) as connection:
        connections.run(connection, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        connections.run(connection, FILL_USERS, {"users": USERS})
        now = datetime.now(UTC)
        connections.run(connection, FILL_DEAD, {"rows": dead, "now": now})
        connections.run(connection, FILL_LIVING, {"rows": living, "now": now})
        connections.run(connection, "VACUUM ANALYZE user_sessions")
    return name


@contextmanager
def _copy(bench: Bench, template: str) -> Iterator[str]:
    name = f"{template}_copy"
    with connections.owner(bench.server.url) as connection:
        connections.run(
            connection,
            f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy',
        )
    bench.checkpoint()
    yield bench.server.url_of(name)
    bench.drop_database(name)


def _measured(bench: Bench, template: str, _name: str, drain: Drain) -> Drained:
    with _copy(bench, template) as url, connections.owner(url) as watch:
        connections.scalar(watch, COUNT)  # in memory, for all of them
        began = perf_counter()
        buffers, batch_seconds = drain(url, watch)
        seconds = perf_counter() - began
        left = connections.scalar(watch, COUNT)
        return Drained(seconds, left, connections.scalar(watch, SIZE) / 1e6, buffers, batch_seconds)


def _by_batch(watch: Any, batches: Iterator[int]) -> tuple[list[int], list[float]]:
    """Buffers and seconds of each batch. Asking for buffers costs all methods alike."""
    buffers, seconds = list[int](), list[float]()
    while True:
        connections.run(watch, "SELECT pg_stat_statements_reset()")
        began = perf_counter()
        if next(batches, 0) == 0:
            return buffers, seconds
        seconds.append(perf_counter() - began)
        buffers.append(connections.scalar(watch, BUFFERS))


def _usual(url: str, watch: Any) -> tuple[list[int], list[float]]:
    def batches() -> Iterator[int]:
        with connections.owner(url) as own:
            now = datetime.now(UTC)
            while removed := connections.run(own, USUAL, {"now": now, "batch": USUAL_BATCH}):
                yield removed

    return _by_batch(watch, batches())


def _ours(url: str, watch: Any) -> tuple[list[int], list[float]]:
    def batches() -> Iterator[int]:
        with product(url) as app, app.app_context():
            done = session_cleanup.step(clock.now(), OUR_BATCH)
            yield done.rows
            while done.is_more:
                done = session_cleanup.step(clock.now(), OUR_BATCH, done.expired_from, done.anonymous_from)
                yield done.rows

    return _by_batch(watch, batches())


def _rebuild(url: str, _watch: Any) -> tuple[list[int], list[float]]:
    with product(url) as app, app.app_context():
        return [], [session_rebuild.rebuild(LONGEST_LOCK_SECONDS).locked_seconds]


FEW = {"ours": _ours}
SHARED = {"ours": _ours, "rebuild": _rebuild}
