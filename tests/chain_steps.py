"""Chains for tests: open some, and do their steps the way messages would, one after the other."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from app import clock
from app.dao import chains_dao, runs_dao
from app.dao.chains_dao import REAL, Group, Slice, Wake
from app.db import db
from app.retention import chains
from app.retention.cutoffs import cutoff
from app.retention.tools import tools
from tests.factories import tonight


def cutoff_tonight(days: int = 7) -> datetime:
    """Tonight's cut-off for a retention of so many days."""
    return cutoff(tonight(), days, tools().settings)


def open_chains(
    service_id: UUID,
    notification_type: str = "email",
    bounds: Sequence[datetime] = (),
    stage: str = REAL,
) -> list[Wake]:
    """Tonight's chains of a service, in slices divided at these bounds; their wake-ups."""
    now = clock.now()
    with db.transaction() as connection:
        runs_dao.start_run(connection, tonight(), now)
        group = Group(tonight(), notification_type, service_id, cutoff_tonight(), stage)
        slices = [Slice(*pair) for pair in zip([None, *bounds], [*bounds, None], strict=True)]
        return chains_dao.open_group(connection, group, slices, now, now, sent=True)


def do(wake: Wake, task_id: str | None = None) -> list[Wake]:
    """The step that a wake-up asks for."""
    return chains.run_step(wake.chain, wake.step, task_id)


def do_all(wakes: Sequence[Wake], at_most: int = 100) -> list[Wake]:
    """All steps, those that follow at once, too, in the order in which they were asked for."""
    done: list[Wake] = []
    waiting = list(wakes)
    while waiting:
        assert len(done) < at_most, "the chain spins"
        wake = waiting.pop(0)
        done.append(wake)
        waiting += do(wake)
    return done


def chain(connection: Connection, wake: Wake) -> Any:
    """The row of a wake-up's chain."""
    found = connection.execute(text("SELECT * FROM retention.chains WHERE id = :id"), {"id": wake.chain})
    return found.mappings().one()


def of_stage(connection: Connection, stage: str) -> list[Any]:
    """The chains of a stage, in order."""
    found = connection.execute(
        text("SELECT * FROM retention.chains WHERE stage = :stage ORDER BY id"), {"stage": stage}
    )
    return list(found.mappings())


def change(connection: Connection, wake: Wake, assignments: str, **values: Any) -> None:
    """Change the chain's row, as another worker or the passing of time would have."""
    statement = text(f"UPDATE retention.chains SET {assignments} WHERE id = :id")
    connection.execute(statement, {"id": wake.chain, **values})
