"""Requests and seconds for 5,000 letters of one day, against an S3 server that answers after 20 ms."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from time import perf_counter
from typing import Any
from uuid import UUID

from app.retention.tools import tools
from app.storage.naming import Place
from benchmarks import connections, reference_letters
from benchmarks.bench import Bench
from benchmarks.letter_data import LETTERS_BUCKET, Day, overdue_day, send, services
from benchmarks.measures import Measure, shown
from benchmarks.methods import Task
from benchmarks.product import Ours, product
from benchmarks.s3_server import S3Server, s3_server
from benchmarks.schema import empty_platform

LETTERS = 5_000
FILES_OF_OTHERS = 200_000
FILES_OF_OTHERS_SMALL = 20_000
OTHER_SERVICES = 100
DAYS_OF_OTHERS = 4_000
ODD_SHARE = 10
SAMPLE = 100
"""Letters of the reference, whose seconds are then those of so many, times 50."""
SAMPLE_SMALL = 10
MOST_REQUESTS = 12
LISTINGS = ("list", "list-type")
LEFT = "SELECT count(*) FROM notifications WHERE service_id = %(service_id)s"


@dataclass(frozen=True)
class Done:
    """What a way took for the letters of a service."""

    requests: Counter[str]
    seconds: float
    seconds_of_files: float
    """From the first request's beginning to the last one's end."""
    rows_left: int
    files_left: int

    @property
    def listings(self) -> int:
        return sum(self.requests[kind] for kind in LISTINGS)


def run(bench: Bench) -> list[Measure]:
    of_others = FILES_OF_OTHERS_SMALL if bench.small else FILES_OF_OTHERS
    with (
        empty_platform(bench, "letters") as url,
        s3_server() as server,
        product(url, aws_endpoint_url_s3=server.url) as app,
        connections.owner(url) as connection,
        app.app_context(),
    ):
        method = _Method(app, connection, server)
        plain, odd = method.ours("plain", overdue_day(0)), method.ours("odd", overdue_day(1), ODD_SHARE)
        reference = method.reference(overdue_day(2), SAMPLE_SMALL if bench.small else SAMPLE)
        with _others(connection, server, of_others, overdue_day(3)):
            crowded = method.ours("crowded", overdue_day(3))
    pages = ceil((of_others + LETTERS) / 1_000)
    table = [
        _row("reference (a sample, scaled)", reference),
        _row("ours, a folder of theirs", plain),
        _row("ours, a tenth of another class and time", odd),
        _row(f"ours, beside {of_others:,} files of others", crowded),
    ]
    columns = ["5,000 letters of a day", "requests", "listings", "deletes", "seconds of files", "seconds of the step"]
    bench.show("20 ms a request, 0.1 ms a deleted key", columns, table)
    return [
        Measure("requests, all counted", plain.requests.total(), at_most=MOST_REQUESTS, is_count=True),
        Measure("the same with odd names", odd.requests.total(), at_most=MOST_REQUESTS, is_count=True),
        Measure("times faster than the reference, files", reference.seconds_of_files / plain.seconds_of_files, 250),
        Measure("times faster than the reference, the whole step", reference.seconds / plain.seconds),
        Measure("listings over the crowded folder's pages", crowded.listings / pages, at_most=1.2, is_count=True),
        Measure("deletes in the crowded folder", crowded.requests["delete"], at_most=LETTERS / 1_000, is_count=True),
        _none("letters left", plain.rows_left + odd.rows_left + crowded.rows_left),
        _none("files left", plain.files_left + odd.files_left + crowded.files_left),
    ]


def _none(name: str, value: int) -> Measure:
    return Measure(name, value, at_most=0, is_count=True)


def _row(name: str, done: Done) -> list[str]:
    deletes = done.requests["delete"] + done.requests["DELETE"]
    counts = (done.requests.total(), done.listings, deletes)
    return [name, *map(shown, counts), shown(done.seconds_of_files), shown(done.seconds)]


@contextmanager
def _others(connection: Any, server: S3Server, count: int, day: Day) -> Iterator[None]:
    """Letters of other services that are kept for long, in the same folder; all of them must still be there after."""
    ids = services(connection, "others", OTHER_SERVICES, days=DAYS_OF_OTHERS)
    keys = send(connection, server, dict.fromkeys(ids, count // OTHER_SERVICES), day)
    yield
    assert not server.missing(LETTERS_BUCKET, keys), "files of others are gone"


class _Method:
    """Each way does what it does in production, on a service with its letters in a folder of their own."""

    def __init__(self, app: Any, connection: Any, server: S3Server) -> None:
        self._app, self._connection, self._server = app, connection, server

    def ours(self, name: str, day: Day, odd_share: int = 0) -> Done:
        service, before = self._service(name, day, LETTERS, odd_share)
        ours = Ours(self._app)
        files = _Timed(tools().files)
        vars(tools())["files"] = files
        wakes = ours.open(Task(service, "letter", day.last))
        self._server.take_requests()
        began = perf_counter()
        for wake in wakes:  # one step, or more on a machine so slow that it runs into its budget
            wakes += ours.step(wake)
        seconds = perf_counter() - began
        vars(tools())["files"] = files.of
        return self._done(service, before, self._server.take_requests(), seconds, files.seconds)

    def reference(self, day: Day, sample: int) -> Done:
        service, before = self._service("reference", day, LETTERS)
        s3 = reference_letters.resource(self._server.url)
        reference_letters.delete_files(s3, [Place(LETTERS_BUCKET, "warm/")])  # what is paid once must not be scaled
        self._server.take_requests()
        began = perf_counter()
        letters = reference_letters.load(service, day.last)
        seconds_to_load = perf_counter() - began
        began = perf_counter()
        reference_letters.delete_files(s3, reference_letters.places(letters)[:sample])
        seconds = (perf_counter() - began) * LETTERS / sample
        requests = Counter({kind: count * LETTERS // sample for kind, count in self._server.take_requests().items()})
        return self._done(service, before, requests, seconds_to_load + seconds, seconds)

    def _service(self, name: str, day: Day, letters: int, odd_share: int = 0) -> tuple[UUID, int]:
        [service] = services(self._connection, name, 1)
        before = self._server.count(LETTERS_BUCKET)
        send(self._connection, self._server, {service: letters}, day, odd_share=odd_share)
        return service, before

    def _done(self, service: UUID, before: int, requests: Counter[str], seconds: float, of_files: float) -> Done:
        rows_left = connections.scalar(self._connection, LEFT, {"service_id": str(service)})
        return Done(requests, seconds, of_files, rows_left, self._server.count(LETTERS_BUCKET) - before)


class _Timed:
    """The product's LetterFiles, with the seconds that it took."""

    def __init__(self, of: Any) -> None:
        self.of, self.seconds = of, 0.0

    def find(self, *arguments: Any) -> Any:
        return self._time(self.of.find, *arguments)

    def delete(self, *arguments: Any) -> Any:
        return self._time(self.of.delete, *arguments)

    def _time(self, work: Any, *arguments: Any) -> Any:
        began = perf_counter()
        try:
            return work(*arguments)
        finally:
            self.seconds += perf_counter() - began
