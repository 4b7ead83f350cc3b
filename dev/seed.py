"""Data to run the pipeline on: many services of very different sizes, real PDFs, and every awkward case.

The same plan makes the same data. It is written with plain COPY and boto3, straight into a migrated database
without services and into empty buckets.
"""

import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import psycopg2

from dev import seed_ordinary
from dev.seed_casebook import Cases
from dev.seed_cases import CASES, awkward
from dev.seed_model import Buckets, Expected, Row, Service, StoredFile, stored_files
from dev.seed_ordinary import Source
from dev.seed_write import analyse, upload, write_rows, write_services

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MESSAGES, LETTERS, HISTORY, FILES = "emails and texts", "letters", "older history", "letter files"

Report = Callable[[str, int, int], None]
"""Called with a part's name, how many of it were just written, and how many there will be in all."""


@dataclass(frozen=True)
class Plan:
    """How much to seed. `now` is aware; ages are counted from it. `scale` multiplies the ordinary rows."""

    now: datetime
    scale: float = 1
    services: int = 44
    messages: int = 30_000
    letters: int = 3_000
    history: int = 2_000
    awkward_cases: bool = True
    random_seed: int = 2026

    def scaled(self, count: int) -> int:
        return round(count * self.scale)


@dataclass(frozen=True)
class Seeded:
    """How much was written, and what must become of the awkward cases."""

    services: int
    written: dict[str, int]
    cases: tuple[Expected, ...]


def quietly(_part: str, _written: int, _total: int) -> None:
    """Report nothing."""


def seed(database_url: str, s3: "S3Client", buckets: Buckets, plan: Plan, report: Report = quietly) -> Seeded:
    """Write the plan's data. Rows are committed as they are written."""
    source = Source(random.Random(plan.random_seed), plan.now)
    ordinary = seed_ordinary.services(source, plan.services)
    cases = awkward(source, buckets, ordinary[0], CASES if plan.awkward_cases else ())
    services = ordinary + cases.services
    letters, files = _letters(source, ordinary, plan, cases)
    messages = plan.scaled(plan.messages)
    history = plan.scaled(plan.history)
    totals = {
        MESSAGES: messages + len(cases.messages),
        LETTERS: len(letters),
        HISTORY: history + len(cases.history),
        FILES: len(files),
    }
    part = {name: partial(_report, report, name, total) for name, total in totals.items()}
    for advance in part.values():
        advance(0)
    with closing(psycopg2.connect(database_url)) as connection:
        write_services(connection, services)
        rows = chain(cases.messages, seed_ordinary.messages(source, ordinary, messages))
        write_rows(connection, "notifications", rows, part[MESSAGES])
        write_rows(connection, "notifications", letters, part[LETTERS])
        rows = chain(cases.history, seed_ordinary.history(source, ordinary, history))
        write_rows(connection, "notification_history", rows, part[HISTORY])
        analyse(connection)
    upload(s3, files, part[FILES])
    return Seeded(len(services), totals, tuple(cases.expected))


def _letters(source: Source, services: list[Service], plan: Plan, cases: Cases) -> tuple[list[Row], list[StoredFile]]:
    """All letters, and all files."""
    rows, files = cases.letters, list(cases.files)
    for row, has_file in seed_ordinary.letters(source, services, plan.scaled(plan.letters)):
        rows.append(row)
        files += stored_files(row, cases.buckets) if has_file else []
    return rows, files


def _report(report: Report, part: str, total: int, written: int) -> None:
    report(part, written, total)
