"""Listings and deletes of a whole night's letters, many services in shared day folders: with the index and without."""

from collections import Counter
from dataclasses import dataclass
from math import ceil
from random import Random
from typing import Any
from uuid import UUID

from app.dao.chains_dao import Wake
from app.retention import chains, nightly
from benchmarks import connections
from benchmarks.bench import Bench
from benchmarks.letter_data import LETTERS_BUCKET, overdue_day, send, services
from benchmarks.measures import Measure, shown
from benchmarks.platform import SEED
from benchmarks.product import product
from benchmarks.s3_server import S3Server, s3_server
from benchmarks.schema import empty_platform

DAYS = 3
SERVICES, SERVICES_SMALL = 1_000, 60
SHARE_WITHOUT = 5
"""Without the index only a fifth of the services, so that it ends."""
LETTERS_OF_SERVICE = (5, 50)
LARGE_SERVICES, LETTERS_OF_LARGE = 3, 9_000
LETTERS_OF_LARGE_SMALL = 1_500
HANDFUL = 4
SERVICES_WITH_A_HANDFUL = 20
"""Alone in a folder of their own, beside many letters that are kept for long."""
LETTERS_KEPT, LETTERS_KEPT_SMALL = 20_000, 4_000
DAYS_KEPT = 4_000
KEYS_PER_REQUEST = 1_000
LETTERS_OF_ONE_DAY = 5

LEFT = "SELECT count(*) FROM notifications WHERE service_id <> ALL (%(kept)s::uuid[])"
STEPS = """
SELECT count(*) FILTER (WHERE files_deleted > 0), coalesce(sum(ceil(files_deleted / 1000.0)), 0)::bigint
FROM retention.steps
"""


@dataclass(frozen=True)
class Night:
    """What a night's letters took."""

    requests: Counter[str]
    most_listings: float
    """1.2 times the pages of the folders touched, and one for each service with a handful."""
    steps: int
    most_deletes: int
    rows_left: int
    files_gone_of_others: int

    @property
    def listings(self) -> int:
        return self.requests["list-type"]


def run(bench: Bench) -> list[Measure]:
    count = SERVICES_SMALL if bench.small else max(SERVICES_SMALL, int(SERVICES * bench.scale))
    ours = _night(bench, "on", count, is_on=True)
    nights = {f"{count:,} services, with the night's index": ours}
    others = []
    if not bench.small:  # which judges nothing of it
        few = max(SERVICES_SMALL, count // SHARE_WITHOUT)
        without = nights[f"{few:,} services, with it switched off"] = _night(bench, "off", few, is_on=False)
        others = [Measure("the same without the index", without.listings / without.most_listings)]
    columns = ["a whole night's letters", "steps with files", "listings", "deletes", "versioning", "rows left"]
    rows = [
        [name, *map(shown, (night.steps, night.listings, *_others(night), night.rows_left))]
        for name, night in nights.items()
    ]
    bench.show(f"in {DAYS} days' folders, {LARGE_SERVICES} services large", columns, rows)
    return [
        Measure("listings over 1.2 × pages + handfuls", ours.listings / ours.most_listings, at_most=1, is_count=True),
        *others,
        Measure(
            "deletes over one per step and 1,000 keys", _deletes(ours) / ours.most_deletes, at_most=1, is_count=True
        ),
        Measure("letters left", ours.rows_left, at_most=0, is_count=True),
        Measure("files of others gone", ours.files_gone_of_others, at_most=0, is_count=True),
        Measure(
            f"S3 requests for a day's {count * LETTERS_OF_ONE_DAY:,} letters of {count:,} services, alone in a folder",
            _requests_of_one_day(bench, count),
            at_most=20,
        ),
    ]


def _deletes(night: Night) -> int:
    return night.requests["delete"]


def _others(night: Night) -> tuple[int, int]:
    return _deletes(night), night.requests["versioning"]


def _night(bench: Bench, name: str, count: int, *, is_on: bool) -> Night:
    with (
        empty_platform(bench, f"folders_{name}") as url,
        s3_server(waits=False) as server,
        product(url, aws_endpoint_url_s3=server.url, letter_folder_index=is_on, fan_out_spread_seconds=0) as app,
        connections.owner(url) as connection,
        app.app_context(),
    ):
        kept, pages = _fill(bench, connection, server, count)
        of_others = LETTERS_KEPT_SMALL if bench.small else LETTERS_KEPT
        _do_all(nightly.fan_out("letter"))
        with connection.cursor() as cursor:
            cursor.execute(STEPS)
            steps, deletes = cursor.fetchone()
        rows_left = connections.scalar(connection, LEFT, {"kept": [str(service) for service in kept]})
        gone = of_others - server.count(LETTERS_BUCKET)
        most = 1.2 * pages + SERVICES_WITH_A_HANDFUL
        return Night(server.take_requests(), most, steps, deletes, rows_left, gone)


def _requests_of_one_day(bench: Bench, count: int) -> int:
    with (
        empty_platform(bench, "folders_one_day") as url,
        s3_server(waits=False) as server,
        product(url, aws_endpoint_url_s3=server.url, fan_out_spread_seconds=0) as app,
        connections.owner(url) as connection,
        app.app_context(),
    ):
        small = services(connection, "small", count)
        send(connection, server, dict.fromkeys(small, LETTERS_OF_ONE_DAY), overdue_day())
        connections.run(connection, "ANALYZE")
        _do_all(nightly.fan_out("letter"))
        return server.take_requests().total()


def _do_all(waiting: list[Wake]) -> None:
    while waiting:
        wake = waiting.pop(0)
        waiting += chains.run_step(wake.chain, wake.step, None)


def _fill(bench: Bench, connection: Any, server: S3Server, count: int) -> tuple[list[UUID], int]:
    """Letters and files. Returns the services whose letters stay, and the pages of the folders of the others'."""
    random, pages = Random(SEED), 0
    small = services(connection, "small", count)
    large = services(connection, "large", LARGE_SERVICES)
    for number in range(DAYS):
        counts = {service: random.randint(*LETTERS_OF_SERVICE) // DAYS + 1 for service in small}
        counts |= dict.fromkeys(large, (LETTERS_OF_LARGE_SMALL if bench.small else LETTERS_OF_LARGE) // DAYS)
        send(connection, server, counts, overdue_day(number))
        pages += ceil(sum(counts.values()) / KEYS_PER_REQUEST)
    kept = services(connection, "kept", 1, days=DAYS_KEPT)
    few = services(connection, "few", SERVICES_WITH_A_HANDFUL)
    of_others = LETTERS_KEPT_SMALL if bench.small else LETTERS_KEPT
    send(connection, server, dict.fromkeys(kept, of_others), overdue_day(DAYS))
    send(connection, server, dict.fromkeys(few, 1), overdue_day(DAYS))
    connections.run(connection, "ANALYZE")
    return kept, pages
