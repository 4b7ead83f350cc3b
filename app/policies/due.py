"""Which rows of a policy are past their time at a moment: its cut-offs, as the age's column has them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from app import clock
from app.config import Settings
from app.dao import policy_rows_dao
from app.dao.catalogue import Type
from app.dao.policy_rows_dao import Due
from app.dao.policy_tables import PolicyTable
from app.engine.stops import Standing
from app.policies.forms import Retention
from app.retention.cutoff_rules import OF_UTC_DATES
from app.retention.cutoffs import cutoff, date_to_count_from

NOBODY = Standing(is_paused=False, services=frozenset(), users=frozenset())


def due(
    connection: Connection,
    settings: Settings,
    of: PolicyTable,
    retention: Retention,
    *,
    began: datetime,
    now: datetime,
    standing: Standing = NOBODY,
) -> Due:
    """What is due of a sweep that began then, without what is on hold. Both times are aware."""
    began = min(began, now)
    services, users = (tuple(map(str, ids)) for ids in (standing.services, standing.users))
    if retention.days is None:
        length = timedelta(hours=retention.hours or 0, minutes=retention.minutes or 0)
        before = _in_column(began - length, of.age_type, settings)
        return Due(before, now, held_services=services, held_users=users)
    night = date_to_count_from(began, settings)
    days = {retention.days, *(policy_rows_dao.days_in_use(connection, of) if of.type_of_retention else ())}
    cutoffs = {n: _in_column(cutoff(night, n, settings), of.age_type, settings) for n in sorted(days)}
    return Due(
        before=max(cutoffs.values()),
        now=now,
        held_services=services,
        held_users=users,
        days=retention.days,
        kept_days=tuple(cutoffs),
        cutoffs=tuple(cutoffs.values()),
    )


def _in_column(instant: datetime, kind: Type, settings: Settings) -> Any:
    """Of a date the cut-off's own, by the dates that the nights count."""
    if kind.name == "timestamp":
        return clock.to_column(instant)
    if kind.name == "timestamptz":
        return instant
    zone = UTC if settings.cutoff_rule in OF_UTC_DATES else settings.zone
    return instant.astimezone(zone).date()
