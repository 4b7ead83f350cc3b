"""Words that are columns' values."""

from sqlalchemy import Enum

EMAIL, SMS, LETTER = "email", "sms", "letter"
NOTIFICATION_TYPES = (EMAIL, SMS, LETTER)

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
# A letter in one of these is still being made or sent: it is not final and stays, however old. So does one
# whose status is NULL.
LETTER_STATUSES_NOT_FINAL = ("pending-virus-check", "created", "sending")

notification_type_enum = Enum(*NOTIFICATION_TYPES, name="notification_type")
