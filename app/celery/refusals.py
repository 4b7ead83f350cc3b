"""Messages that were refused: each is logged, without anything of its content, and counted.

The count waits in the process until it is written down, because a worker's main process must not stand still for a
database: its presence takes the count along (app/celery/presence.py). A pool's process writes at once.
"""

from collections import Counter

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.celery.messages import WHY
from app.dao import totals_dao
from app.db import db

log = structlog.get_logger(__name__)

_waiting: Counter[str] = Counter()


def refuse(code: str, task: str | None = None, task_id: str | None = None, why: str | None = None) -> None:
    """Log and count a refusal. A task's name and id only if they are ours; `why` says more than the code does."""
    log.error("message-refused", code=code, why=why or WHY[code], task=task, task_id=task_id)
    _waiting[code] += 1


def are_waiting() -> bool:
    """Whether refusals have not been written down."""
    return bool(_waiting)


def take() -> dict[str, int]:
    """How many there were by code since the last time; who takes them writes them down."""
    taken = dict(_waiting)
    _waiting.clear()
    return taken


def give_back(taken: dict[str, int]) -> None:
    """What was taken could not be written down."""
    _waiting.update(taken)


def write_down() -> None:
    """Write the counts down now; with a database that is away they wait for the next refusal of this process."""
    taken = take()
    try:
        with db.transaction() as connection:
            totals_dao.add(connection, totals_dao.MESSAGES_REFUSED, taken)
    except SQLAlchemyError as error:
        give_back(taken)
        log.warning("refusals-not-counted", error=type(getattr(error, "orig", None) or error).__name__)
