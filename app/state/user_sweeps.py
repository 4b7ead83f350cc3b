"""What stops a sweep over users: it waits for a person, or for emails to be accepted. Pure."""

from collections.abc import Iterable, Iterator

from app.clock import UTC
from app.dao.inactive_users_dao import MARK, NEVER_COMPLETED, WARN
from app.dao.user_sweeps_dao import UserSweep
from app.state.findings import Finding, look

SHARE, MORE, REFUSALS = "share", "more-than-allowed", "addresses-refused"
NOT_TRACKED, STOPPED = "visits-not-tracked", "visits-stopped"
NO_EMAIL = "no-email"
ACCEPTABLE = frozenset({SHARE, MORE, NOT_TRACKED, STOPPED})

TITLES = {
    WARN: "warnings about inactivity",
    MARK: "deletions for inactivity",
    NEVER_COMPLETED: "deletions of accounts that were never completed",
}
WOULD = {
    WARN: "would warn {found:,} of {users:,} active users",
    MARK: "would mark {found:,} of {users:,} active users for deletion",
    NEVER_COMPLETED: "would mark {found:,} of {users:,} users for deletion",
}
WHY = {
    SHARE: "That is more than INACTIVE_SHARE allows",
    MORE: "The sweep has already acted on {acted:,} users, which is all that it was allowed",
    NOT_TRACKED: "Nearly all active users have no last visit, as if nobody recorded visits",
    STOPPED: "No active user has visited for a week, as if visits were no longer recorded",
    REFUSALS: "The addresses of {refused:,} of {acted:,} users refused the warning, which is more than "
    "WARNINGS_REFUSED_SHARE allows",
}
ACCEPT = "if that is right, accept it with: flask --app app accounts accept-share {sweep} {found}"
LOOK_AT_EMAILS = "see what the refused addresses have in common; the next night tries again"
LOOK_AT_SENDER = "fix the SES account or the settings; the next night goes on"


def check(sweeps: Iterable[UserSweep]) -> Iterator[Finding]:
    """What stops the last night of each sweep over users."""
    return (finding for of in sweeps if (finding := stopped(of)) is not None)


def reason(of: UserSweep) -> str | None:
    """What stops the sweep, in a word; None if nothing does."""
    return of.blocked_by or (NO_EMAIL if of.mail_failure is not None else None)


def stopped(of: UserSweep) -> Finding | None:
    """What stops the sweep and what to do about it; None if nothing does."""
    values, about = vars(of), f"sweep {of.sweep}"
    if of.blocked_by is not None:
        return look(
            about,
            f"{TITLES[of.sweep]} are blocked: the night of {of.night} {WOULD[of.sweep].format(**values)}. "
            f"{WHY[of.blocked_by].format(**values)}",
            ACCEPT.format(**values) if of.blocked_by in ACCEPTABLE else LOOK_AT_EMAILS,
        )
    if of.mail_failure is not None and of.mail_failed_at is not None:
        return look(
            about,
            f"{TITLES[of.sweep]} can't be sent since {of.mail_failed_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC: SES "
            f"answers {of.mail_failure}. Nobody counts as warned",
            LOOK_AT_SENDER,
        )
    return None
