"""The tables, a module per subject."""

from app.models.base import RETENTION_SCHEMA, Base
from app.models.notifications import KeyType, Notification, NotificationHistory, NotificationStatusType
from app.models.retention import (
    AcceptedMissing,
    Chain,
    DeferredBucket,
    DeferredLetter,
    Hold,
    Intent,
    LetterLook,
    Run,
    RunType,
    Step,
)
from app.models.services import Service, ServiceDataRetention

__all__ = [
    "RETENTION_SCHEMA",
    "AcceptedMissing",
    "Base",
    "Chain",
    "DeferredBucket",
    "DeferredLetter",
    "Hold",
    "Intent",
    "KeyType",
    "LetterLook",
    "Notification",
    "NotificationHistory",
    "NotificationStatusType",
    "Run",
    "RunType",
    "Service",
    "ServiceDataRetention",
    "Step",
]
