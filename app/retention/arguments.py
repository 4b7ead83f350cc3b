"""Arguments from outside, checked: what makes no sense is refused with a sentence, and nothing is changed."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from uuid import UUID

from app import clock
from app.config import Settings
from app.errors import BadArgument
from app.models.types import NOTIFICATION_TYPES
from app.retention import cutoffs

LARGEST_BIGINT = 2**63 - 1
MOST_CHARACTERS_FOR_THE_RECORD = 200


class CutoffInFuture(BadArgument):
    """The cut-off is after the start of today's local date, so that it would reach rows that are still in use."""


def checked_type(notification_type: str, known: Sequence[str] = NOTIFICATION_TYPES) -> str:
    """The notification type, one of those that are known. Raises BadArgument."""
    if notification_type not in known:
        raise BadArgument(f"{{}} is not a notification type; it is one of {', '.join(known)}", notification_type)
    return notification_type


def checked_types(notification_types: Iterable[str], known: Sequence[str] = NOTIFICATION_TYPES) -> list[str]:
    """The notification types, of those that are known. Raises BadArgument."""
    return [checked_type(notification_type, known) for notification_type in notification_types]


def checked_id(service_id: UUID | str) -> UUID:
    """The service's id. Raises BadArgument."""
    try:
        return service_id if isinstance(service_id, UUID) else UUID(service_id)
    except (ValueError, AttributeError, TypeError):
        raise BadArgument("{} is not a service id; it must be a UUID", service_id) from None


def checked_night(night: str | date | None, settings: Settings) -> date:
    """The night, tonight where none is given. Raises BadArgument for what is no date, or a night to come."""
    tonight = clock.local_date(clock.now(), settings.zone)
    if night is None:
        return tonight
    day = clock.as_day(night)
    if day > tonight:
        raise BadArgument(f"the night of {day} is still to come; tonight is {tonight} in {settings.retention_timezone}")
    return day


def checked_cutoff(value: datetime | str, settings: Settings, *, force: bool) -> datetime:
    """The cut-off, aware, in UTC. Raises BadArgument, and CutoffInFuture unless forced."""
    cutoff = clock.as_utc(value)
    tonight = clock.local_date(clock.now(), settings.zone)
    if cutoff > latest_cutoff(tonight, settings) and not force:
        raise CutoffInFuture(
            f"{cutoff.isoformat()} is after the start of today ({tonight} in {settings.retention_timezone}). "
            "No retention reaches that far; force it (--force, force=True) if it is meant."
        )
    return cutoff


def latest_cutoff(tonight: date, settings: Settings) -> datetime:
    """The start of today (aware), or the cut-off of the shortest retention, where UTC's date ends after that."""
    return max(clock.first_instant(tonight, settings.zone), cutoffs.cutoff(tonight, 1, settings))


def checked_words(text: str) -> str:
    """What somebody says for the record: one line, not too long. Raises BadArgument."""
    if not text.isprintable() or not 0 < len(text) <= MOST_CHARACTERS_FOR_THE_RECORD:
        raise BadArgument(f"it must be one line of 1 to {MOST_CHARACTERS_FOR_THE_RECORD} characters")
    return text


def checked_number(name: str, value: object) -> int:
    """A chain's id or a step's number. Raises BadArgument."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_BIGINT:
        raise BadArgument(f"{{}} is not a {name}; it must be a whole number", value)
    return value


def checked_flag(name: str, value: object) -> bool:
    """Yes or no. Raises BadArgument."""
    if not isinstance(value, bool):
        raise BadArgument(f"{{}} is not a value of {name}; it must be true or false", value)
    return value
