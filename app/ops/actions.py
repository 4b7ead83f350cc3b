"""What can be done from the page. Each asks first, does its work in one go or not at all, and is recorded.

The work itself is that of `flask retention …`. Runs are started by the dispatcher, at its next look.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from app.accounts import brake
from app.dao.holds_dao import PIPELINE, USER, of_service, of_user
from app.errors import BadArgument
from app.models.types import NOTIFICATION_TYPES
from app.retention import operations
from app.retention.arguments import checked_id, checked_type
from app.state import user_sweeps

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


def _accept_share(given: Given, by: str) -> str:
    number = given["number"]
    if not number.isdecimal():
        raise BadArgument("{} is not a number of users", number)
    brake.accept(given["sweep"], int(number), by)
    return f"Accepted, for {int(number):,} users. The workers begin within a minute or two."


def _run(given: Given, by: str) -> str:
    types = None if given["type"] == ALL_TYPES else (checked_type(given["type"]),)
    service = checked_id(given["service"]) if given["service"] else None
    chains = operations.run(types, service, started_by=by, by_dispatcher=True)
    if not chains:
        raise NothingToDo("There is nothing to start: nothing is overdue, or it is under way.")
    return f"{len(chains):,} chains opened. The dispatcher starts them at its next look."


def _pause(given: Given, by: str) -> str:
    placed = operations.pause(given["reason"], by, wait_seconds=SECONDS_TO_WAIT_FOR_A_STEP)
    if not placed.is_new and placed.is_confirmed:
        raise NothingToDo("The pipeline was paused already. Nothing was changed.")
    return f"The pipeline is paused: nothing begins that deletes or rewrites{placed.says()}."


def _resume(_given: Given, by: str) -> str:
    lifted, woken = operations.lift(PIPELINE, by)
    if not lifted:
        raise NothingToDo("The pipeline was not paused. Nothing was changed.")
    return f"The pipeline goes on, with {woken:,} chains."


def _hold(given: Given, by: str) -> str:
    id_, is_user = _whom(given)
    place = operations.hold_user if is_user else operations.hold
    placed = place(id_, given["reason"], by, wait_seconds=SECONDS_TO_WAIT_FOR_A_STEP)
    named = "user" if is_user else "service"
    if not placed.is_new and placed.is_confirmed:
        raise NothingToDo(f"The {named} was on hold already. Nothing was changed.")
    return f"{named.capitalize()} {id_} is on hold: nothing begins that deletes of it{placed.says()}."


def _lift(given: Given, by: str) -> str:
    id_, is_user = _whom(given)
    named = "user" if is_user else "service"
    lifted, woken = operations.lift(of_user(id_) if is_user else of_service(id_), by)
    if not lifted:
        raise NothingToDo(f"The {named} is not on hold. Nothing was changed.")
    return f"The hold on {named} {id_} is lifted; {woken:,} chains go on."


def _whom(given: Given) -> tuple[UUID, bool]:
    """The id of whom a hold is about, and whether that is a user."""
    written = given["service"]
    return checked_id(written.removeprefix(USER)), written.startswith(USER)


ALL_TYPES = "all"
SERVICE_OR_USER = Field(
    "service", "Service or user", f"A service's id; of a user, {USER} and the id.", is_required=True
)
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
            "accept-share",
            "Accept that many users are warned or marked",
            "The blocked sweep acts on so many users, this night only: it warns them, or marks their accounts for "
            "deletion. If visits are no longer written, or a subscription's status changed its name, people who are "
            "there lose their accounts.",
            "Accept",
            _accept_share,
            (
                Field("sweep", "Sweep", choices=tuple(user_sweeps.TITLES), is_required=True),
                Field("number", "Users", "As many as the page says.", is_required=True),
                Field("sure", "I have checked that these users are really away", is_required=True, is_box=True),
            ),
            is_grave=True,
        ),
        Action(
            "hold",
            "Put a service or a user on hold",
            "Once this is confirmed, nothing of the service, or of the user, is deleted or rewritten until the hold is "
            "lifted. It may take some seconds: what is running ends first.",
            "Put on hold",
            _hold,
            (SERVICE_OR_USER, REASON),
        ),
        Action(
            "lift",
            "Lift a hold",
            "What is past its retention goes again, and what rested for the hold goes on at once. What is then "
            "deleted does not come back.",
            "Lift the hold",
            _lift,
            (SERVICE_OR_USER,),
            is_grave=True,
        ),
        Action(
            "pause",
            "Pause the pipeline",
            "What is running ends; then nothing is deleted or rewritten, accounts and sessions included, until the "
            "pipeline is resumed. Nothing is lost, and what is past its retention waits.",
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
