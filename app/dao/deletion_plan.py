"""What becomes of each column that holds a user's id when the user goes, and why.

A test compares the plan with the database's own catalogue: each foreign key to `users` is in it exactly once, and
so is each column that is known to hold a user's id without one; each has an index. A table that is missing here
fails that test.
"""

from dataclasses import dataclass, field
from enum import Enum

from app.dao.user_children_dao import Owned


class Action(Enum):
    """What is done with a row of the user's."""

    DELETE = "delete"
    REASSIGN = "reassign to the ghost user"
    SET_NULL = "set null"
    REMOVE_FROM_ARRAY = "remove from the JSON array"
    KEEP = "keep"
    """Only for a column without a foreign key: it would keep the user's row."""


@dataclass(frozen=True)
class Child(Owned):
    """What becomes of a column by which rows are a user's.

    Where there is no foreign key, `key` must be a column that never changes, since a row that another transaction
    updates meanwhile moves to another ctid, and nothing would hold the user's row back. `unique_with` are the columns
    that are unique together with this one, so that a reassigned row can meet one that the ghost user already has. What
    is `at_end` goes in the transaction that deletes the user's row, since it is read there before.
    """

    action: Action
    why: str
    unique_with: tuple[str, ...] = field(default=(), kw_only=True)
    at_end: bool = field(default=False, kw_only=True)


DELETE, REASSIGN, SET_NULL = Action.DELETE, Action.REASSIGN, Action.SET_NULL

PLAN: tuple[Child, ...] = (
    Child("user_sessions", "user_id", DELETE, "nobody stays signed in"),
    Child("verify_codes", "user_id", DELETE, "a code without an account opens nothing"),
    Child("webauthn_credential", "user_id", DELETE, "nor does a security key"),
    Child("login_events", "user_id", DELETE, "where somebody signed in from is personal"),
    Child("malformed_flags", "user_id", DELETE, "there are no flags left to fix", key="user_id"),
    Child("invited_users", "user_id", DELETE, "an invitation ends with the account of whoever sent it"),
    Child("invited_organisation_users", "invited_by_id", DELETE, "as an invitation to a service does"),
    Child("invited_users", "email_address", DELETE, "nobody has that address here any more", holds_address=True),
    Child("invited_organisation_users", "email_address", DELETE, "as in invited_users", holds_address=True),
    Child("users", "invited_by_id", SET_NULL, "who was invited stays, and needs no inviter"),
    Child("support_tickets", "user_id", DELETE, "the message is personal"),
    Child("support_tickets", "assigned_to_id", SET_NULL, "somebody else must see that nobody has it"),
    Child("user_folder_permissions", "user_id", DELETE, "nobody is left to see the folder"),
    Child("templates", "created_by_id", REASSIGN, "the service goes on sending it"),
    Child("templates_history", "created_by_id", REASSIGN, "sent notifications refer to their version"),
    Child("jobs", "created_by_id", REASSIGN, "without a maker it would look like the platform's own"),
    Child("api_keys", "created_by_id", REASSIGN, "the service's systems go on calling with it"),
    Child("api_keys_history", "created_by_id", REASSIGN, "the key's trail stays whole"),
    Child("events", "created_by_id", REASSIGN, "the trail says that a person did it, and no longer who"),
    Child("service_contact_list", "created_by_id", REASSIGN, "the list is the service's"),
    Child("service_callback_api", "updated_by_id", REASSIGN, "receipts go on arriving"),
    Child("feature_requests", "created_by_id", SET_NULL, "the wish is everybody's, and needs no author"),
    Child(
        "feature_votes",
        "user_id",
        REASSIGN,
        "the wish keeps one vote for all who have left",
        unique_with=("feature_request_id",),
    ),
    Child(
        "leader_boards",
        "entries",
        Action.REMOVE_FROM_ARRAY,
        "a board names only who is still here",
        key="id",
        json_key="user_id",
    ),
    # In this order: a notification that moves to history meanwhile is met there.
    Child("notifications", "created_by_id", REASSIGN, "it was sent by hand, and stays the service's", key="id"),
    Child("notification_history", "created_by_id", REASSIGN, "as in notifications", key="id"),
    Child("user_exports", "user_id", Action.KEEP, "an export outlives its account until its own time is up"),
    Child("user_deletions", "user_id", Action.KEEP, "the record of the deletion itself"),
    Child("user_deletions", "requested_by_id", Action.KEEP, "the record of who asked is why there is one"),
    Child("user_to_organisation", "user_id", DELETE, "a membership ends with its member", at_end=True),
    Child("user_to_service", "user_id", DELETE, "a membership ends with its member", at_end=True),
    Child("permissions", "user_id", DELETE, "read last, to see who else can manage a service", at_end=True),
)
