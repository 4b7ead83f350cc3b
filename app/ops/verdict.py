"""Is anything overdue? One sentence, why, and what to do about it."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.dao.ops_page_dao import Resting
from app.ops.progress import Run
from app.retention import overdue
from app.retention.overdue import Kept, State
from app.retention.report import DATABASE_REFUSES, PRECONDITION, ROWS_REFUSED

MOST_REASONS = 5
RESTING_WORDS = {"on-hold", "paused", "missing-files", PRECONDITION}
BY_THE_DATABASE = ("refused by the database", DATABASE_REFUSES, ROWS_REFUSED)
OF_REFERENCES = ("AmbiguousReference", "SharedReference")


@dataclass(frozen=True)
class Advice:
    """What to do, and the action of the page that does it, if one does."""

    sentence: str
    action: str | None = None


@dataclass(frozen=True)
class Verdict:
    """The state of it all, and of what is red the longest-kept, each with its reason."""

    state: State
    alarms: list[Kept]
    more_alarms: int
    advice: list[Advice]


def judge(state: State, run: Run | None, resting: list[Resting]) -> Verdict:
    """Say why it is red, what has a reason first, and what to do."""
    alarms = sorted((one for one in state.kept if state.is_alarm(one)), key=lambda one: not one.why)
    advice = list(dict.fromkeys(_advice(alarms, run, resting)))
    return Verdict(state, alarms[:MOST_REASONS], max(0, len(alarms) - MOST_REASONS), advice)


def _advice(alarms: list[Kept], run: Run | None, resting: list[Resting]) -> Iterator[Advice]:
    kinds = {one.kind for one in alarms}
    why = {word for one in alarms if one.kind == overdue.OVERDUE for word in one.why}
    if any(one.reason == "paused" for one in resting) and overdue.OVERDUE in kinds:
        yield Advice("The pipeline is paused. Resume it when the reason for the pause is gone.", "resume")
    if any(one.reason == PRECONDITION for one in resting):
        yield Advice(
            "Something is not as it must be, so that nothing of some policies is done: see what is blocked, below. "
            "They go on by themselves when it is fixed."
        )
    references = {word for word in why if word.startswith(OF_REFERENCES)}
    if references:
        yield Advice(
            "A letter's reference could reach another letter's file, so nothing was deleted. Delete its own file by "
            "hand, then try it again.",
            "retry",
        )
    refused = {word for word in why if word.startswith(BY_THE_DATABASE)}
    if refused:
        yield Advice(
            "The database refuses to let rows go. Remove the constraint or trigger that is named, or correct the rows; "
            "then try again what is held back.",
            "retry",
        )
    if why - references - refused - RESTING_WORDS:
        yield Advice(
            "S3 refuses files, or can't be reached. Fix the bucket or its permissions, then try again what is "
            "held back.",
            "retry",
        )
    if overdue.OVERDUE in kinds and not why:
        if run is not None and run.is_going:
            yield Advice("The run is under way. Watch its end; this should turn green with it.")
        else:
            yield Advice("No run is taking it. See below that workers are alive, then start one.", "run")
    if overdue.MISSING_FILES in kinds:
        yield Advice(
            "Many letters have no file. Check the names of the buckets and LETTER_FOLDER_TIMEZONE; if they "
            "are right, accept it.",
            "accept-missing",
        )
    if overdue.REFUSED in kinds:
        yield Advice("A retention of no days, or fewer, is refused. Set it to 1 day or more for the services below.")
    if overdue.NOT_FINAL in kinds:
        yield Advice("Letters have been on their way for weeks. Ask those who send them what became of them.")
    if overdue.UNKNOWN_STATUS in kinds:
        yield Advice(
            "Letters are in a status that nobody has named, or in none. Name it in LETTER_STATUSES_FINAL if it is a "
            "letter's last, else in LETTER_STATUSES_UNFINISHED."
        )
    if overdue.ON_HOLD in kinds:
        yield Advice("A hold has stood for very long. Ask whether it is still needed.", "lift")
