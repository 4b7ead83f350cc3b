"""Words that are columns' values."""

from sqlalchemy import Enum

EMAIL, SMS, LETTER = "email", "sms", "letter"
NOTIFICATION_TYPES = (EMAIL, SMS, LETTER)
MESSAGE_TYPES = (EMAIL, SMS)
"""All, on a platform without letters."""

KEY_TYPES = ("normal", "team", "test")
TEST_KEY = "test"

STATUSES = (
    "cancelled",
    "created",
    "sending",
    "sent",
    "delivered",
    "pending",
    "failed",
    "technical-failure",
    "temporary-failure",
    "permanent-failure",
    "pending-virus-check",
    "validation-failed",
    "virus-scan-failed",
    "returned-letter",
)

notification_type_enum = Enum(*NOTIFICATION_TYPES, name="notification_type")
