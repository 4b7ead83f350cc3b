"""What policies would end now, measured from the data. Only reads."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from app import clock
from app.dao import policy_rows_dao
from app.db import db
from app.engine import stops
from app.policies import checks
from app.policies.due import due
from app.policies.reading import Policy
from app.policies.tools import tools

COUNT_NO_FURTHER = 10_000
SECONDS_TO_COUNT = 30.0


@dataclass(frozen=True)
class Planned:
    """What is past its time of one policy, without what is on hold or held back; `problem`: why nothing of it goes."""

    policy: str
    rows: int = 0
    is_capped: bool = False
    oldest: str | None = None
    """The oldest row's age, as PostgreSQL prints it."""
    problem: str | None = None


def plan(policies: Iterable[Policy]) -> list[Planned]:
    """Each policy's rows that are past their time, counted up to COUNT_NO_FURTHER. Raises DBAPIError."""
    asked = list(policies)
    with db.transaction(read_only=True, statement_seconds=SECONDS_TO_COUNT) as connection:
        now = db.bounded_now(connection, clock.now())
        standing = stops.standing(connection, partial(_nothing))
        found = []
        for bound in checks.check(connection, asked):
            if bound.table is None or bound.problems:
                found.append(Planned(bound.policy.name, problem=str(bound.problems[0])))
                continue
            retention = bound.policy.entry.retention
            of = bound.table
            which = due(connection, tools().settings, of, retention, began=now, now=now, standing=standing)
            rows = policy_rows_dao.count(connection, of, which, COUNT_NO_FURTHER)
            oldest = policy_rows_dao.look(connection, of, which, 1) if rows else []
            found.append(Planned(bound.policy.name, rows, rows == COUNT_NO_FURTHER, oldest[0].age if oldest else None))
        return found


def _nothing(_connection: object) -> None:
    """It destroys nothing, and so needs no turn."""
