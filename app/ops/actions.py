"""What can be done from the page. Each asks first, does its work in one go or not at all, and is recorded.

The work itself is that of `flask retention …`. Runs are started by the dispatcher, at its next look.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from app.dao.holds_dao import PIPELINE
from app.errors import BadArgument
from app.models.types import NOTIFICATION_TYPES
from app.retention import operations
from app.retention.arguments import checked_id, checked_type

MOST_CHARACTERS = 200
SECONDS_TO_WAIT_FOR_A_STEP = 15

Given = Mapping[str, str]


class NothingToDo(BadArgument):
    """What was asked for is done already, or there is nothing to do it to. Nothing was changed."""


@dataclass(frozen=True)
class Field:
    """A field of an action's form."""

    name: str
    label: str
    hint: str = ""
    is_required: bool = False
    choices: tuple[str, ...] = ()
    is_box: bool = False


@dataclass(frozen=True)
class Action:
    """What can be done, what will happen, and what does it: it returns a sentence that says what it did."""

    name: str
    title: str
    says: str
    button: str
    do: Callable[[Given, str], str]
    fields: tuple[Field, ...] = field(default=())
    is_grave: bool = False


def _retry(given: Given, by: str) -> str:
    service = checked_id(given["service"]) if given["service"] else None
    count = operations.retry(service_id=service, reason=given["reason"] or None, retried_by=by)
    if not count:
        raise NothingToDo("Nothing that is held back fits. Nothing was changed.")
    return f"{count:,} held back are due now. The dispatcher starts on them at its next look."


def _accept_missing(_given: Given, by: str) -> str:
    woken = operations.accept_missing(by)
    if not woken:
        raise NothingToDo("No chain rests for missing files. Nothing was changed.")
    return f"Accepted. {woken:,} chains go on."


def _run(given: Given, by: str) -> str:
    types = None if given["type"] == ALL_TYPES else (checked_type(given["type"]),)
    service = checked_id(given["service"]) if given["service"] else None
    chains = operations.run(types, service, started_by=by, by_dispatcher=True)
    if not chains:
        raise NothingToDo("There is nothing to start: nothing is overdue, or it is under way.")
    return f"{len(chains):,} chains opened. The dispatcher starts them at its next look."


def _pause(given: Given, by: str) -> str:
    if not operations.pause(_words(given["reason"]), by):
        raise NothingToDo("The pipeline was paused already. Nothing was changed.")
    return "The pipeline is paused. Steps that are running end; nothing else begins."


def _resume(_given: Given, by: str) -> str:
    lifted, woken = operations.lift(PIPELINE, by)
    if not lifted:
        raise NothingToDo("The pipeline was not paused. Nothing was changed.")
    return f"The pipeline goes on, with {woken:,} chains."


def _hold(given: Given, by: str) -> str:
    service = checked_id(given["service"])
    if not operations.hold(service, _words(given["reason"]), by, wait_seconds=SECONDS_TO_WAIT_FOR_A_STEP):
        raise NothingToDo("The service was on hold already. Nothing was changed.")
    return f"Service {service} is on hold. Nothing of it is deleted until the hold is lifted."


def _lift(given: Given, by: str) -> str:
    service = checked_id(given["service"])
    lifted, woken = operations.lift(str(service), by)
    if not lifted:
        raise NothingToDo("The service is not on hold. Nothing was changed.")
    return f"The hold on service {service} is lifted; {woken:,} chains go on."


def _words(reason: str) -> str:
    if not reason.isprintable() or not 0 < len(reason) <= MOST_CHARACTERS:
        raise BadArgument(f"The reason must be one line of 1 to {MOST_CHARACTERS} characters.")
    return reason


ALL_TYPES = "all"
SERVICE = Field("service", "Service", "Its id.", is_required=True)
ANY_SERVICE = Field("service", "Service", "Its id. Empty: all of them.")
REASON = Field("reason", "Why", "For the record. No personal data.", is_required=True)

ACTIONS = {
    action.name: action
    for action in (
        Action(
            "retry",
            "Retry what is held back",
            "Letters whose files could not be deleted, and buckets that refused everything, become due at once. What "
            "fails again is held back again. Nothing is lost by trying.",
            "Retry now",
            _retry,
            (ANY_SERVICE, Field("reason", "Reason", "Such as AccessDenied. Empty: whatever the reason.")),
        ),
        Action(
            "run",
            "Start a run",
            "What is past its retention now goes, as it would at night. Starting twice does no harm.",
            "Start",
            _run,
            (Field("type", "Type", choices=(ALL_TYPES, *NOTIFICATION_TYPES), is_required=True), ANY_SERVICE),
        ),
        Action(
            "accept-missing",
            "Accept missing files",
            "Letters without a file will be moved as they are, in the buckets and nights for which chains rest. If a "
            "bucket's name or LETTER_FOLDER_TIMEZONE is wrong, their files stay behind for good.",
            "Accept",
            _accept_missing,
            (Field("sure", "I have checked the buckets' names and the time zone", is_required=True, is_box=True),),
            is_grave=True,
        ),
        Action(
            "hold",
            "Put a service on hold",
            "Once this is confirmed, nothing of the service is deleted until the hold is lifted. It may take some "
            "seconds: a step that is running ends first.",
            "Put on hold",
            _hold,
            (SERVICE, REASON),
        ),
        Action(
            "lift",
            "Lift a hold",
            "What is past its retention goes again, and what rested for the hold goes on at once. What is then "
            "deleted does not come back.",
            "Lift the hold",
            _lift,
            (SERVICE,),
            is_grave=True,
        ),
        Action(
            "pause",
            "Pause the pipeline",
            "Each chain ends the step that it is in, and rests until the pipeline is resumed. Nothing is lost, and "
            "what is past its retention waits.",
            "Pause",
            _pause,
            (REASON,),
        ),
        Action(
            "resume",
            "Resume the pipeline",
            "Every chain that rests for the pause goes on where it was.",
            "Resume",
            _resume,
        ),
    )
}
