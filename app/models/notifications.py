"""What was sent: live rows with the recipient in them, and history without.

Timestamps are `timestamp without time zone` in UTC, as in the rest of the family.
"""

from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid4

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base
from app.models.types import notification_type_enum


def _made_by_hand(name: str) -> Index:
    """Finds what a user made by hand: a small share of all rows, and no other is in it."""
    return Index(name, "created_by_id", postgresql_where=text("created_by_id IS NOT NULL"))


class KeyType(Base):
    """What kind of API key made a notification: normal, team, or test."""

    __tablename__ = "key_types"

    name: Mapped[str] = mapped_column(primary_key=True)


class NotificationStatusType(Base):
    """The statuses that a notification can have."""

    __tablename__ = "notification_status_types"

    name: Mapped[str] = mapped_column(primary_key=True)


class _Sent:
    """The columns that live rows and history share."""

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    job_id: Mapped[UUID | None]
    job_row_number: Mapped[int | None]
    template_id: Mapped[UUID]
    template_version: Mapped[int]
    api_key_id: Mapped[UUID | None]
    notification_type: Mapped[str] = mapped_column(notification_type_enum)
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    sent_by: Mapped[str | None]
    updated_at: Mapped[datetime | None]
    reference: Mapped[str | None]
    billable_units: Mapped[int] = mapped_column(default=0, server_default="0")
    client_reference: Mapped[str | None]
    international: Mapped[bool] = mapped_column(default=False, server_default="false")
    phone_prefix: Mapped[str | None]
    rate_multiplier: Mapped[Decimal | None]
    created_by_id: Mapped[UUID | None]
    postage: Mapped[str | None]
    document_download_count: Mapped[int | None]


class Notification(_Sent, Base):
    """A live row. It leaves for history, or for good when made with a test key, once past its retention."""

    __tablename__ = "notifications"

    # Who got it and what it said is loaded only when it is asked for: the pipeline's role may not read it.
    to: Mapped[str] = mapped_column(deferred=True)
    normalised_to: Mapped[str | None] = mapped_column(deferred=True)
    service_id: Mapped[UUID | None] = mapped_column(ForeignKey("services.id"))
    key_type: Mapped[str] = mapped_column(ForeignKey("key_types.name"))
    notification_status: Mapped[str | None] = mapped_column(ForeignKey("notification_status_types.name"))
    _personalisation: Mapped[str | None] = mapped_column(deferred=True)
    reply_to_text: Mapped[str | None] = mapped_column(deferred=True)
    unsubscribe_link: Mapped[str | None] = mapped_column(deferred=True)

    __table_args__ = (
        Index(
            "ix_notifications_service_id_notification_type_created_at",
            "service_id",
            "notification_type",
            "created_at",
        ),
        Index("ix_notifications_service_created_at", "service_id", "created_at"),
        Index(
            "ix_notifications_notification_type_composite",
            "notification_type",
            "notification_status",
            "created_at",
        ),
        Index("ix_notifications_created_at", "created_at"),
        Index("ix_notifications_reference", "reference"),
        Index("ix_notifications_client_reference", "client_reference"),
        Index("ix_notifications_job_id", "job_id"),
        Index("ix_notifications_template_id", "template_id"),
        Index(
            "ix_notifications_normalised_to_trgm",
            "normalised_to",
            postgresql_using="gin",
            postgresql_ops={"normalised_to": "gin_trgm_ops"},
        ),
        Index(
            "ix_notifications_client_reference_trgm",
            "client_reference",
            postgresql_using="gin",
            postgresql_ops={"client_reference": "gin_trgm_ops"},
        ),
        Index(
            "ix_notifications_not_delivered",
            "service_id",
            "created_at",
            postgresql_where=text("notification_status IS DISTINCT FROM 'delivered'"),
        ),
        _made_by_hand("ix_notifications_created_by_id"),
    )


class NotificationHistory(_Sent, Base):
    """What remains for billing and statistics. No recipient, no content, and no foreign keys: see docs/adr."""

    __tablename__ = "notification_history"

    service_id: Mapped[UUID | None]
    key_type: Mapped[str]
    notification_status: Mapped[str | None]

    __table_args__ = (
        Index(
            "ix_notification_history_service_id_composite",
            "service_id",
            "key_type",
            "notification_type",
            "created_at",
        ),
        Index("ix_notification_history_created_at", "created_at"),
        Index("ix_notification_history_reference", "reference"),
        _made_by_hand("ix_notification_history_created_by_id"),
    )
