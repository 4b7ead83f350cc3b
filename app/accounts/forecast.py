"""What the sweeps over users would do in the coming nights, if nobody came back: in numbers, and nothing is changed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta

from app import clock
from app.accounts import brake
from app.accounts.sweeps import SWEEPS, limits
from app.accounts.tools import tools
from app.dao import forecast_dao, user_sweeps_dao
from app.dao.forecast_dao import KEPT
from app.dao.inactive_users_dao import WARN
from app.db import db

NIGHTS = 60
SECONDS_TO_COUNT = 300.0


@dataclass(frozen=True)
class Night:
    """How many users a night would act on, by sweep; and the sweeps that an operator would have to accept."""

    night: date
    users: Mapping[str, int]
    blocked: tuple[str, ...]


@dataclass(frozen=True)
class Forecast:
    """The coming nights, tonight's first; how many users what keeps until then; what stops tonight's sweeps."""

    nights: list[Night]
    kept: Mapping[str, int]
    stopped: Mapping[str, str]

    def as_json(self) -> dict[str, object]:
        """For programs."""
        nights = [{"night": one.night.isoformat(), **one.users, "blocked": list(one.blocked)} for one in self.nights]
        return {"nights": nights, "kept": dict(self.kept), "stopped": dict(self.stopped)}


def forecast() -> Forecast:
    """Look NIGHTS nights ahead. Everybody is read once, which takes some seconds for each million users."""
    settings = tools().settings
    with db.transaction(read_only=True, statement_seconds=SECONDS_TO_COUNT) as connection:
        now = db.bounded_now(connection, clock.now())
        found = forecast_dao.forecast(
            connection,
            limits(settings, WARN, now),
            nights=NIGHTS,
            warn_days=settings.inactive_warn_days,
            delete_days=settings.inactive_delete_days,
            notice_days=settings.inactive_notice_days,
            never_completed_days=settings.never_completed_days,
        )
        acts = {(one.what, one.night): one.users for one in found if one.night != KEPT}
        everybody = user_sweeps_dao.survey_of(connection, 0, now - brake.LATELY)
    surveys = {sweep: replace(everybody, found=acts.get((sweep, 0), 0)) for sweep in SWEEPS}
    allowed = {sweep: brake.most_allowed(settings, brake.base(sweep, survey)) for sweep, survey in surveys.items()}
    tonight = clock.local_date(now, settings.zone)
    nights = []
    for number in range(NIGHTS):
        users = {sweep: acts.get((sweep, number), 0) for sweep in SWEEPS}
        blocked = tuple(sweep for sweep, most in allowed.items() if most is not None and users[sweep] > most)
        nights.append(Night(tonight + timedelta(days=number), users, blocked))
    reasons = {sweep: brake.why_blocked(settings, sweep, survey) for sweep, survey in surveys.items()}
    stopped = {sweep: reason for sweep, reason in reasons.items() if reason is not None}
    kept = {one.what: one.users for one in sorted(found, key=lambda one: -one.users) if one.night == KEPT}
    return Forecast(nights, kept, stopped)
