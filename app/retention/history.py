"""What went, when, from the records of steps: for how long, RECORDS_KEPT_DAYS says."""

from collections.abc import Sequence
from datetime import date
from uuid import UUID

from app import clock
from app.dao import step_history_dao
from app.dao.step_history_dao import DayOfSteps
from app.db import db
from app.errors import BadArgument
from app.models.types import NOTIFICATION_TYPES
from app.retention.arguments import checked_id, checked_types
from app.retention.cutoffs import require_service


def history(
    service_id: UUID | str,
    first: date | str,
    last: date | str | None = None,
    notification_types: Sequence[str] = NOTIFICATION_TYPES,
) -> list[DayOfSteps]:
    """What was moved and deleted of a service, by night, type and stage; of one night, or up to the last, included.

    A night is the local date on which its run began. Raises BadArgument, and UnknownService for a service that is not
    there and of which no step is on record.
    """
    of = checked_id(service_id)
    begin, types = clock.as_day(first), checked_types(notification_types)
    end = begin if last is None else clock.as_day(last)
    if end < begin:
        raise BadArgument(f"the days from {begin} to {end} are none; give the earlier date first")
    with db.transaction(read_only=True) as connection:
        if not step_history_dao.is_on_record(connection, of):
            require_service(connection, of)
        return step_history_dao.of_service(connection, of, begin, end, types)
