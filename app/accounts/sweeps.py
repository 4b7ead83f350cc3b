"""The daily sweeps over users, page by page: what they have in common.

A sweep looks at a page of users in the order of an index and acts on each by itself. What goes wrong with one is logged
with that user's id, is tried once more at the end of the page, and leaves the user to the next day's sweep only then.
When it goes wrong with everybody, the page ends, and the next one begins a little later with those who were missed.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from app import clock
from app.accounts.errors import UnplannedReference
from app.accounts.mail import MailUnavailable
from app.config import Settings
from app.dao import inactive_users_dao
from app.dao.inactive_users_dao import BEGINNING, MARK, NEVER_COMPLETED, WARN, Candidate, Limits, Position
from app.db import db
from app.engine import stops
from app.observability import error_reports
from app.storage.client import Deadline

log = structlog.get_logger(__name__)

USERS_PER_PAGE = 500
FAILED, UNAVAILABLE, BLOCKED = "failed", "unavailable", "blocked"
UNPLANNED = UnplannedReference.code
ENDS = (BLOCKED, UNPLANNED)
"""Outcomes after which nobody else of the sweep is looked at: it would be the same with everybody."""
UNAVAILABLE_IN_A_ROW = 3
"""So many in a row say that it is not about the users: the page ends, and the next one comes a little later."""
MOST_REPORTED_A_PAGE = 10
"""What fails with more users than this on one page is no one user's failure: the log has the others."""
MOST_GOING_BACK = 30
"""Pauses in a row after which the next page no longer goes back: some few must not keep everybody else waiting."""


@dataclass(frozen=True)
class Page:
    """What became of a page's users, by kind of outcome, and where the next one begins."""

    outcomes: Counter[str] = field(default_factory=Counter)
    next: Position | None = None
    """None: the sweep is over."""
    pause: bool = False
    """Whether the next page had better wait a little."""


def limits(settings: Settings, sweep: str, now: datetime) -> Limits:
    """What a sweep compares with. `now` (aware) is a moment that the database's clock has reached."""
    days = {
        WARN: settings.inactive_warn_days,
        MARK: settings.inactive_delete_days,
        NEVER_COMPLETED: settings.never_completed_days,
    }
    return Limits(
        now,
        now - timedelta(days=days[sweep]),
        now - timedelta(days=settings.inactive_notice_days),
        settings.subscription_statuses_ended,
        settings.inactive_warning_attempts,
    )


def run_page(
    settings: Settings, sweep: str, act: Callable[[UUID], str], after: Position | None = None, pauses: int = 0
) -> Page:
    """One step of a sweep: act on each user of a page whom nothing keeps, until the step's time is up.

    `pauses` is how many pages in a row before this one ended with a pause. While the pipeline is paused the sweep is
    over at once: the next day's goes on.
    """
    deadline, began = Deadline(settings.step_budget_seconds), time.monotonic()
    begins = after or BEGINNING
    with db.transaction(read_only=True) as connection:
        now = db.bounded_now(connection, clock.now())
        found = inactive_users_dao.page(connection, sweep, limits(settings, sweep, now), begins, USERS_PER_PAGE)
    look = _look(sweep, act, found, begins, deadline)
    if any(look.outcomes[outcome] for outcome in ENDS):
        return _ended(sweep, began, Page(look.outcomes))
    if look.failed and (look.in_a_row == UNAVAILABLE_IN_A_ROW or deadline.remaining() <= 0):
        look.outcomes.update(outcome for _, _, outcome in look.failed)
        first_missed = look.failed[0][0]
        return _ended(
            sweep, began, Page(look.outcomes, first_missed if pauses < MOST_GOING_BACK else look.at, pause=True)
        )
    errors: list[Exception] = []
    look.outcomes.update([_act(sweep, act, user_id, errors) for _, user_id, _ in look.failed])
    for error in errors[:MOST_REPORTED_A_PAGE]:
        error_reports.report(error)
    is_last = len(found) < USERS_PER_PAGE and (not found or look.at == found[-1].position)
    return _ended(sweep, began, Page(look.outcomes, None if is_last else look.at))


@dataclass
class _Look:
    """How far a page was looked at, and what failed: from where it is found again, whose it is, and the outcome."""

    at: Position
    outcomes: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[Position, UUID, str]] = field(default_factory=list)
    in_a_row: int = 0


def _look(
    sweep: str, act: Callable[[UUID], str], found: Sequence[Candidate], begins: Position, deadline: Deadline
) -> _Look:
    look = _Look(begins)
    for candidate in found:
        outcome = candidate.kept_by or _act(sweep, act, candidate.user_id)
        if outcome in (FAILED, UNAVAILABLE):
            look.failed.append((look.at, candidate.user_id, outcome))
        else:
            look.outcomes[outcome] += 1
        if candidate.kept_by is None:
            look.in_a_row = look.in_a_row + 1 if outcome == UNAVAILABLE else 0
        look.at = candidate.position
        if look.in_a_row == UNAVAILABLE_IN_A_ROW or outcome in ENDS or deadline.remaining() <= 0:
            break
    return look


def _ended(sweep: str, began: float, page: Page) -> Page:
    seconds = round(time.monotonic() - began, 3)
    log.info(
        "sweep-page",
        sweep=sweep,
        seconds=seconds,
        **{key.replace("-", "_"): count for key, count in page.outcomes.items()},
    )
    return page


def _act(sweep: str, act: Callable[[UUID], str], user_id: UUID, errors: list[Exception] | None = None) -> str:
    try:
        return act(user_id)
    except stops.Held as held:
        return str(held)
    except MailUnavailable as error:
        log.warning("mail-unavailable", sweep=sweep, user_id=str(user_id), error=error.code)
        return UNAVAILABLE
    except Exception as error:
        # Whatever it is: everybody behind this user would wait for it to be fixed. Its text may name an address.
        log.error("sweep-failed-for-user", sweep=sweep, user_id=str(user_id), error=type(error).__name__)
        if errors is not None:
            errors.append(error)
        return FAILED


def candidates(settings: Settings, sweep: str, now: datetime) -> Iterator[Candidate]:
    """Everyone whom a sweep would look at if it began now, a page in memory at a time. Only reads."""
    after: Position | None = BEGINNING
    while after is not None:
        with db.transaction(read_only=True) as connection:
            bounded = limits(settings, sweep, db.bounded_now(connection, now))
            found = inactive_users_dao.page(connection, sweep, bounded, after, USERS_PER_PAGE)
        yield from found
        after = found[-1].position if len(found) == USERS_PER_PAGE else None


SWEEPS = (WARN, MARK, NEVER_COMPLETED)
