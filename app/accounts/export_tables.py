"""What an export of a user's data holds: for each table the columns, and what is left out, with why.

A test compares this with the catalogue: every table that refers to `users` is here, and every column is either exported
or left out. A new table or column fails that test until somebody has decided.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

SECRET = "it opens something"  # noqa: S105 - a reason
SOMEBODY_ELSES = "it says something of somebody else"
OURS = "it is the product's own bookkeeping"


@dataclass(frozen=True)
class Exported:
    """Rows of a table that are the user's by `column`, without the columns that are left out."""

    table: str
    column: str
    columns: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Column to why it is not exported."""
    is_address: bool = False
    """Whether `column` holds the user's address, in whichever case, instead of the id."""
    suffix: str = ""
    """What tells the file apart from another of the same table."""

    @property
    def name(self) -> str:
        """Of the file, without its extension."""
        return f"{self.table}{self.suffix}"


EXPORTED = (
    Exported(
        "users",
        "id",
        (
            *("id", "name", "email_address", "flags", "state", "platform_admin", "last_visit_at", "free_trial_end"),
            *("lifetime_deal", "subscription", "deletion_warning_sent_at", "created_at", "updated_at"),
        ),
        {
            "password_hash": SECRET,
            "invited_by_id": SOMEBODY_ELSES,
            "deletion_warning_address": OURS,
            "deletion_warning_attempts": OURS,
            "deletion_warning_failure": OURS,
            "deletion_warning_due_at": OURS,
        },
    ),
    Exported(
        "user_sessions",
        "user_id",
        ("id", "user_id", "created_at", "expires_at"),
        {"token_hash": SECRET, "data": SECRET},
    ),
    Exported("login_events", "user_id", ("id", "user_id", "data", "created_at")),
    Exported("verify_codes", "user_id", ("id", "user_id", "expires_at"), {"code_hash": SECRET}),
    Exported("webauthn_credential", "user_id", ("id", "user_id", "name", "created_at"), {"public_key": SECRET}),
    Exported("user_to_service", "user_id", ("user_id", "service_id")),
    Exported("user_to_organisation", "user_id", ("user_id", "organisation_id")),
    Exported("user_folder_permissions", "user_id", ("user_id", "template_folder_id")),
    Exported("permissions", "user_id", ("id", "service_id", "user_id", "permission", "created_at")),
    Exported(
        "templates",
        "created_by_id",
        ("id", "service_id", "name", "content", "version", "created_by_id", "created_at"),
    ),
    Exported(
        "templates_history",
        "created_by_id",
        ("id", "version", "service_id", "content", "created_by_id", "created_at"),
    ),
    Exported("jobs", "created_by_id", ("id", "service_id", "original_file_name", "created_by_id", "created_at")),
    Exported("api_keys", "created_by_id", ("id", "service_id", "name", "created_by_id", "created_at")),
    Exported("api_keys_history", "created_by_id", ("id", "version", "service_id", "created_by_id", "created_at")),
    Exported(
        "invited_users", "user_id", ("id", "service_id", "user_id", "created_at"), {"email_address": SOMEBODY_ELSES}
    ),
    Exported(
        "invited_organisation_users",
        "invited_by_id",
        ("id", "organisation_id", "invited_by_id", "created_at"),
        {"email_address": SOMEBODY_ELSES},
    ),
    Exported(
        "invited_users",
        "email_address",
        ("id", "service_id", "email_address", "created_at"),
        {"user_id": SOMEBODY_ELSES},
        is_address=True,
        suffix="_received",
    ),
    Exported(
        "invited_organisation_users",
        "email_address",
        ("id", "organisation_id", "email_address", "created_at"),
        {"invited_by_id": SOMEBODY_ELSES},
        is_address=True,
        suffix="_received",
    ),
    Exported("events", "created_by_id", ("id", "event_type", "service_id", "created_by_id", "created_at")),
    Exported(
        "service_contact_list",
        "created_by_id",
        ("id", "service_id", "original_file_name", "created_by_id", "created_at"),
    ),
    Exported(
        "service_callback_api",
        "updated_by_id",
        ("id", "service_id", "updated_by_id", "created_at"),
        {"url": SECRET},
    ),
    Exported(
        "support_tickets",
        "user_id",
        ("id", "user_id", "message", "created_at"),
        {"assigned_to_id": SOMEBODY_ELSES},
    ),
    Exported("feature_requests", "created_by_id", ("id", "title", "created_by_id", "created_at")),
    Exported("feature_votes", "user_id", ("id", "feature_request_id", "user_id", "created_at")),
    # Sent by hand: to whom, and what, is about the recipients.
    Exported("notifications", "created_by_id", ("id", "created_by_id"), {"*": SOMEBODY_ELSES}),
    Exported("notification_history", "created_by_id", ("id", "created_by_id"), {"*": SOMEBODY_ELSES}),
)

NOT_THE_USERS = {
    ("users", "invited_by_id"): SOMEBODY_ELSES,
    ("support_tickets", "assigned_to_id"): SOMEBODY_ELSES,
}
"""Columns with a user's id that make no row that user's."""
