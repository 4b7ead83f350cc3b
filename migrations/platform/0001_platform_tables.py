"""The platform's tables: services, their retention, notifications and history.

History has no foreign keys: its rows outlive what they name (docs/adr/0004).
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = ("platform",)
depends_on = None

KEY_TYPES = ("normal", "team", "test")
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
notification_type = postgresql.ENUM("email", "sms", "letter", name="notification_type", create_type=False)


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    op.execute("CREATE TYPE notification_type AS ENUM ('email', 'sms', 'letter')")
    op.create_table(
        "key_types",
        sa.Column("name", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="key_types_pkey"),
    )
    op.create_table(
        "notification_history",
        sa.Column("service_id", sa.Uuid(), nullable=True),
        sa.Column("key_type", sa.String(), nullable=False),
        sa.Column("notification_status", sa.String(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("job_row_number", sa.Integer(), nullable=True),
        sa.Column("template_id", sa.Uuid(), nullable=False),
        sa.Column("template_version", sa.Integer(), nullable=False),
        sa.Column("api_key_id", sa.Uuid(), nullable=True),
        sa.Column("notification_type", notification_type, nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("sent_at", sa.DateTime(), nullable=True),
        sa.Column("sent_by", sa.String(), nullable=True),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
        sa.Column("reference", sa.String(), nullable=True),
        sa.Column("billable_units", sa.Integer(), server_default="0", nullable=False),
        sa.Column("client_reference", sa.String(), nullable=True),
        sa.Column("international", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("phone_prefix", sa.String(), nullable=True),
        sa.Column("rate_multiplier", sa.Numeric(), nullable=True),
        sa.Column("created_by_id", sa.Uuid(), nullable=True),
        sa.Column("postage", sa.String(), nullable=True),
        sa.Column("document_download_count", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="notification_history_pkey"),
    )
    op.create_index("ix_notification_history_created_at", "notification_history", ["created_at"])
    op.create_index("ix_notification_history_reference", "notification_history", ["reference"])
    op.create_index(
        "ix_notification_history_service_id_composite",
        "notification_history",
        ["service_id", "key_type", "notification_type", "created_at"],
    )
    op.create_table(
        "notification_status_types",
        sa.Column("name", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="notification_status_types_pkey"),
    )
    op.create_table(
        "services",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="services_pkey"),
        sa.UniqueConstraint("name", name="services_name_key"),
    )
    op.create_table(
        "notifications",
        sa.Column("to", sa.String(), nullable=False),
        sa.Column("normalised_to", sa.String(), nullable=True),
        sa.Column("service_id", sa.Uuid(), nullable=True),
        sa.Column("key_type", sa.String(), nullable=False),
        sa.Column("notification_status", sa.String(), nullable=True),
        sa.Column("_personalisation", sa.String(), nullable=True),
        sa.Column("reply_to_text", sa.String(), nullable=True),
        sa.Column("unsubscribe_link", sa.String(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("job_row_number", sa.Integer(), nullable=True),
        sa.Column("template_id", sa.Uuid(), nullable=False),
        sa.Column("template_version", sa.Integer(), nullable=False),
        sa.Column("api_key_id", sa.Uuid(), nullable=True),
        sa.Column("notification_type", notification_type, nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("sent_at", sa.DateTime(), nullable=True),
        sa.Column("sent_by", sa.String(), nullable=True),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
        sa.Column("reference", sa.String(), nullable=True),
        sa.Column("billable_units", sa.Integer(), server_default="0", nullable=False),
        sa.Column("client_reference", sa.String(), nullable=True),
        sa.Column("international", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("phone_prefix", sa.String(), nullable=True),
        sa.Column("rate_multiplier", sa.Numeric(), nullable=True),
        sa.Column("created_by_id", sa.Uuid(), nullable=True),
        sa.Column("postage", sa.String(), nullable=True),
        sa.Column("document_download_count", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["key_type"], ["key_types.name"], name="notifications_key_type_fkey"),
        sa.ForeignKeyConstraint(
            ["notification_status"], ["notification_status_types.name"], name="notifications_notification_status_fkey"
        ),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name="notifications_service_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="notifications_pkey"),
    )
    op.create_index("ix_notifications_client_reference", "notifications", ["client_reference"])
    op.create_index(
        "ix_notifications_client_reference_trgm",
        "notifications",
        ["client_reference"],
        postgresql_using="gin",
        postgresql_ops={"client_reference": "gin_trgm_ops"},
    )
    op.create_index("ix_notifications_created_at", "notifications", ["created_at"])
    op.create_index("ix_notifications_job_id", "notifications", ["job_id"])
    op.create_index(
        "ix_notifications_normalised_to_trgm",
        "notifications",
        ["normalised_to"],
        postgresql_using="gin",
        postgresql_ops={"normalised_to": "gin_trgm_ops"},
    )
    op.create_index(
        "ix_notifications_not_delivered",
        "notifications",
        ["service_id", "created_at"],
        postgresql_where=sa.text("notification_status IS DISTINCT FROM 'delivered'"),
    )
    op.create_index(
        "ix_notifications_notification_type_composite",
        "notifications",
        ["notification_type", "notification_status", "created_at"],
    )
    op.create_index("ix_notifications_reference", "notifications", ["reference"])
    op.create_index("ix_notifications_service_created_at", "notifications", ["service_id", "created_at"])
    op.create_index(
        "ix_notifications_service_id_notification_type_created_at",
        "notifications",
        ["service_id", "notification_type", "created_at"],
    )
    op.create_index("ix_notifications_template_id", "notifications", ["template_id"])
    op.create_table(
        "service_data_retention",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("notification_type", notification_type, nullable=False),
        sa.Column("days_of_retention", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name="service_data_retention_service_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="service_data_retention_pkey"),
        sa.UniqueConstraint("service_id", "notification_type", name="uix_service_data_retention"),
    )
    op.create_index("ix_service_data_retention_service_id", "service_data_retention", ["service_id"])
    _fill("key_types", KEY_TYPES)
    _fill("notification_status_types", STATUSES)


def _fill(table: str, names: tuple[str, ...]) -> None:
    op.bulk_insert(sa.table(table, sa.column("name", sa.String)), [{"name": name} for name in names])


def downgrade() -> None:
    op.drop_table("service_data_retention")
    op.drop_table("notifications")
    op.drop_table("services")
    op.drop_table("notification_status_types")
    op.drop_table("notification_history")
    op.drop_table("key_types")
    op.execute("DROP TYPE notification_type")
