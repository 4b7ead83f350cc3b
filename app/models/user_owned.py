"""What a user owns or has touched, as a notifications platform has it. No foreign key to `users` cascades.

What becomes of each column when its user goes is in `app/dao/deletion_plan.py`. Timestamps are
`timestamp with time zone`.
"""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Instant

Id = Annotated[UUID, mapped_column(primary_key=True, default=uuid4)]
UserId = Annotated[UUID, mapped_column(ForeignKey("users.id"), index=True)]
MaybeUserId = Annotated[UUID | None, mapped_column(ForeignKey("users.id"), index=True)]
ServiceId = Annotated[UUID, mapped_column(ForeignKey("services.id"), index=True)]
At = Annotated[datetime, mapped_column(Instant)]


class Organisation(Base):
    """A body that several services belong to."""

    __tablename__ = "organisations"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[At]


class TemplateFolder(Base):
    """A folder of a service's templates."""

    __tablename__ = "template_folders"

    id: Mapped[Id]
    service_id: Mapped[ServiceId]
    name: Mapped[str]


class UserToService(Base):
    """A membership in a service."""

    __tablename__ = "user_to_service"

    user_id: Mapped[UserId] = mapped_column(primary_key=True)
    service_id: Mapped[ServiceId] = mapped_column(primary_key=True)


class UserToOrganisation(Base):
    """A membership in an organisation."""

    __tablename__ = "user_to_organisation"

    user_id: Mapped[UserId] = mapped_column(primary_key=True)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("organisations.id"), primary_key=True)


class UserFolderPermission(Base):
    """A folder of templates that a member may see."""

    __tablename__ = "user_folder_permissions"

    user_id: Mapped[UserId] = mapped_column(primary_key=True)
    template_folder_id: Mapped[UUID] = mapped_column(ForeignKey("template_folders.id"), primary_key=True)


class Permission(Base):
    """What a user may do in a service; `manage_service` is what a live service needs somebody to have."""

    __tablename__ = "permissions"
    __table_args__ = (
        UniqueConstraint("service_id", "user_id", "permission", name="uix_service_user_permission"),
        Index("ix_permissions_service_id_permission", "service_id", "permission"),
    )

    id: Mapped[Id]
    service_id: Mapped[UUID] = mapped_column(ForeignKey("services.id"))
    user_id: Mapped[UserId]
    permission: Mapped[str]
    created_at: Mapped[At]


class Template(Base):
    """The text of a service's notifications, as it is now."""

    __tablename__ = "templates"

    id: Mapped[Id]
    service_id: Mapped[ServiceId]
    name: Mapped[str]
    content: Mapped[str]
    version: Mapped[int] = mapped_column(server_default="1", default=1)
    created_by_id: Mapped[UserId]
    created_at: Mapped[At]


class TemplateVersion(Base):
    """The text as it was in a version."""

    __tablename__ = "templates_history"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    service_id: Mapped[ServiceId]
    content: Mapped[str]
    created_by_id: Mapped[UserId]
    created_at: Mapped[At]


class Job(Base):
    """A list of recipients that was uploaded and sent."""

    __tablename__ = "jobs"

    id: Mapped[Id]
    service_id: Mapped[ServiceId]
    original_file_name: Mapped[str]
    created_by_id: Mapped[MaybeUserId]
    created_at: Mapped[At]


class ApiKey(Base):
    """A key with which a service's systems call the platform. They go on when its maker leaves."""

    __tablename__ = "api_keys"

    id: Mapped[Id]
    service_id: Mapped[ServiceId]
    name: Mapped[str]
    created_by_id: Mapped[UserId]
    created_at: Mapped[At]


class ApiKeyVersion(Base):
    """An API key as it was in a version."""

    __tablename__ = "api_keys_history"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    service_id: Mapped[ServiceId]
    created_by_id: Mapped[UserId]
    created_at: Mapped[At]


class InvitedUser(Base):
    """An invitation to a service, with the address of somebody who may have no account."""

    __tablename__ = "invited_users"
    __table_args__ = (Index("ix_invited_users_address", text("lower(email_address)")),)

    id: Mapped[Id]
    email_address: Mapped[str]
    service_id: Mapped[ServiceId]
    from_user_id: Mapped[UserId] = mapped_column("user_id")
    created_at: Mapped[At]


class InvitedOrganisationUser(Base):
    """An invitation to an organisation."""

    __tablename__ = "invited_organisation_users"
    __table_args__ = (Index("ix_invited_organisation_users_address", text("lower(email_address)")),)

    id: Mapped[Id]
    email_address: Mapped[str]
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("organisations.id"))
    invited_by_id: Mapped[UserId]
    created_at: Mapped[At]


class VerifyCode(Base):
    """A code that was sent to prove an address or a number."""

    __tablename__ = "verify_codes"

    id: Mapped[Id]
    user_id: Mapped[UserId]
    code_hash: Mapped[str]
    expires_at: Mapped[At]


class WebauthnCredential(Base):
    """A security key."""

    __tablename__ = "webauthn_credential"

    id: Mapped[Id]
    user_id: Mapped[UserId]
    name: Mapped[str]
    public_key: Mapped[str]
    created_at: Mapped[At]


class LoginEvent(Base):
    """A log-in, with what was known of where it came from."""

    __tablename__ = "login_events"

    id: Mapped[Id]
    user_id: Mapped[UserId]
    data: Mapped[Any] = mapped_column(JSONB)
    created_at: Mapped[At]


class Event(Base):
    """What happened in a service, for its audit trail."""

    __tablename__ = "events"

    id: Mapped[Id]
    event_type: Mapped[str]
    service_id: Mapped[ServiceId]
    created_by_id: Mapped[MaybeUserId]
    created_at: Mapped[At]


class ContactList(Base):
    """Recipients that a service keeps."""

    __tablename__ = "service_contact_list"

    id: Mapped[Id]
    service_id: Mapped[ServiceId]
    original_file_name: Mapped[str]
    created_by_id: Mapped[MaybeUserId]
    created_at: Mapped[At]


class ServiceCallback(Base):
    """Where a service wants its receipts."""

    __tablename__ = "service_callback_api"

    id: Mapped[Id]
    service_id: Mapped[ServiceId]
    url: Mapped[str]
    updated_by_id: Mapped[UserId]
    created_at: Mapped[At]


class SupportTicket(Base):
    """What a user wrote to the people who run the platform."""

    __tablename__ = "support_tickets"

    id: Mapped[Id]
    user_id: Mapped[UserId]
    message: Mapped[str]
    assigned_to_id: Mapped[MaybeUserId]
    created_at: Mapped[At]


class FeatureRequest(Base):
    """A wish for the platform, open to everybody's votes."""

    __tablename__ = "feature_requests"

    id: Mapped[Id]
    title: Mapped[str]
    created_by_id: Mapped[MaybeUserId]
    created_at: Mapped[At]


class FeatureVote(Base):
    """One vote a user and feature request."""

    __tablename__ = "feature_votes"
    __table_args__ = (UniqueConstraint("feature_request_id", "user_id"),)

    id: Mapped[Id]
    feature_request_id: Mapped[UUID] = mapped_column(ForeignKey("feature_requests.id"))
    user_id: Mapped[UserId]
    created_at: Mapped[At]


class LeaderBoard(Base):
    """Who sent most in a month: `entries` is an array of objects with a `user_id` each."""

    __tablename__ = "leader_boards"
    __table_args__ = (
        Index(
            "ix_leader_boards_entries", "entries", postgresql_using="gin", postgresql_ops={"entries": "jsonb_path_ops"}
        ),
    )

    id: Mapped[Id]
    month: Mapped[str] = mapped_column(unique=True)
    entries: Mapped[Any] = mapped_column(JSONB, server_default=text("'[]'"), default=list)
