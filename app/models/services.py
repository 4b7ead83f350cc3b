"""Services and how long each keeps what it sends."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base
from app.models.types import notification_type_enum


class Service(Base):
    """A team that sends notifications."""

    __tablename__ = "services"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(unique=True)
    active: Mapped[bool] = mapped_column(default=True, server_default="true")
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]


class ServiceDataRetention(Base):
    """The days that a service keeps a type, where it differs from the default."""

    __tablename__ = "service_data_retention"
    __table_args__ = (UniqueConstraint("service_id", "notification_type", name="uix_service_data_retention"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    service_id: Mapped[UUID] = mapped_column(ForeignKey("services.id"), index=True)
    notification_type: Mapped[str] = mapped_column(notification_type_enum)
    days_of_retention: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]
