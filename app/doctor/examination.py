"""All that the doctor looks at, one thing after the other; what can't be looked at is a finding, too."""

from collections.abc import Callable, Iterable, Iterator

from sqlalchemy.exc import SQLAlchemyError

from app.config import Settings
from app.doctor import buckets, clocks, database, encryption, settings, work
from app.doctor.finding import Finding, error

Check = Callable[[Settings], Iterable[Finding]]

CHECKS: dict[str, Check] = {
    settings.CHECK: settings.examine,
    "database": database.examine,
    "buckets": buckets.examine,
    clocks.CHECK: clocks.examine,
    encryption.CHECK: encryption.examine,
    work.BROKER: work.broker_answers,
    work.EMAIL: work.email_sender,
    work.STATE: work.judged,
    work.STATUSES: work.letters_statuses,
}


def examine(of: Settings) -> Iterator[Finding]:
    """Every finding, those that are well among them."""
    for name, check in CHECKS.items():
        try:
            yield from check(of)
        except SQLAlchemyError as problem:
            why = type(getattr(problem, "orig", None) or problem).__name__
            yield error(
                name,
                f"It can't be looked at: the database says {why}.",
                "Check DATABASE_URL, and that the server runs.",
            )
