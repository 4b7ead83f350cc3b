"""What users own or have touched. No foreign key to users cascades: a deletion goes table by table."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "leader_boards",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("entries", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="leader_boards_pkey"),
        sa.UniqueConstraint("month", name="leader_boards_month_key"),
    )
    op.create_index(
        "ix_leader_boards_entries",
        "leader_boards",
        ["entries"],
        postgresql_using="gin",
        postgresql_ops={"entries": "jsonb_path_ops"},
    )
    op.create_table(
        "organisations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="organisations_pkey"),
        sa.UniqueConstraint("name", name="organisations_name_key"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name="api_keys_created_by_id_fkey"),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name="api_keys_service_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="api_keys_pkey"),
    )
    op.create_index("ix_api_keys_created_by_id", "api_keys", ["created_by_id"])
    op.create_index("ix_api_keys_service_id", "api_keys", ["service_id"])
    op.create_table(
        "api_keys_history",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name="api_keys_history_created_by_id_fkey"),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name="api_keys_history_service_id_fkey"),
        sa.PrimaryKeyConstraint("id", "version", name="api_keys_history_pkey"),
    )
    op.create_index("ix_api_keys_history_created_by_id", "api_keys_history", ["created_by_id"])
    op.create_index("ix_api_keys_history_service_id", "api_keys_history", ["service_id"])
    op.create_table(
        "events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("event_type", sa.String(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name="events_created_by_id_fkey"),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name="events_service_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="events_pkey"),
    )
    op.create_index("ix_events_created_by_id", "events", ["created_by_id"])
    op.create_index("ix_events_service_id", "events", ["service_id"])
    op.create_table(
        "feature_requests",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name="feature_requests_created_by_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="feature_requests_pkey"),
    )
    op.create_index("ix_feature_requests_created_by_id", "feature_requests", ["created_by_id"])
    op.create_table(
        "invited_organisation_users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email_address", sa.String(), nullable=False),
        sa.Column("organisation_id", sa.Uuid(), nullable=False),
        sa.Column("invited_by_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["invited_by_id"], ["users.id"], name="invited_organisation_users_invited_by_id_fkey"),
        sa.ForeignKeyConstraint(
            ["organisation_id"], ["organisations.id"], name="invited_organisation_users_organisation_id_fkey"
        ),
        sa.PrimaryKeyConstraint("id", name="invited_organisation_users_pkey"),
    )
    op.create_index("ix_invited_organisation_users_invited_by_id", "invited_organisation_users", ["invited_by_id"])
    op.create_table(
        "invited_users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email_address", sa.String(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name="invited_users_service_id_fkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="invited_users_user_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="invited_users_pkey"),
    )
    op.create_index("ix_invited_users_service_id", "invited_users", ["service_id"])
    op.create_index("ix_invited_users_user_id", "invited_users", ["user_id"])
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("original_file_name", sa.String(), nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name="jobs_created_by_id_fkey"),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name="jobs_service_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="jobs_pkey"),
    )
    op.create_index("ix_jobs_created_by_id", "jobs", ["created_by_id"])
    op.create_index("ix_jobs_service_id", "jobs", ["service_id"])
    op.create_table(
        "login_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("data", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="login_events_user_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="login_events_pkey"),
    )
    op.create_index("ix_login_events_user_id", "login_events", ["user_id"])
    op.create_table(
        "permissions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("permission", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name="permissions_service_id_fkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="permissions_user_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="permissions_pkey"),
        sa.UniqueConstraint("service_id", "user_id", "permission", name="uix_service_user_permission"),
    )
    op.create_index("ix_permissions_service_id_permission", "permissions", ["service_id", "permission"])
    op.create_index("ix_permissions_user_id", "permissions", ["user_id"])
    op.create_table(
        "service_callback_api",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("updated_by_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name="service_callback_api_service_id_fkey"),
        sa.ForeignKeyConstraint(["updated_by_id"], ["users.id"], name="service_callback_api_updated_by_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="service_callback_api_pkey"),
    )
    op.create_index("ix_service_callback_api_service_id", "service_callback_api", ["service_id"])
    op.create_index("ix_service_callback_api_updated_by_id", "service_callback_api", ["updated_by_id"])
    op.create_table(
        "service_contact_list",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("original_file_name", sa.String(), nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name="service_contact_list_created_by_id_fkey"),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name="service_contact_list_service_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="service_contact_list_pkey"),
    )
    op.create_index("ix_service_contact_list_created_by_id", "service_contact_list", ["created_by_id"])
    op.create_index("ix_service_contact_list_service_id", "service_contact_list", ["service_id"])
    op.create_table(
        "support_tickets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("assigned_to_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["assigned_to_id"], ["users.id"], name="support_tickets_assigned_to_id_fkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="support_tickets_user_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="support_tickets_pkey"),
    )
    op.create_index("ix_support_tickets_assigned_to_id", "support_tickets", ["assigned_to_id"])
    op.create_index("ix_support_tickets_user_id", "support_tickets", ["user_id"])
    op.create_table(
        "template_folders",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name="template_folders_service_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="template_folders_pkey"),
    )
    op.create_index("ix_template_folders_service_id", "template_folders", ["service_id"])
    op.create_table(
        "templates",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name="templates_created_by_id_fkey"),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name="templates_service_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="templates_pkey"),
    )
    op.create_index("ix_templates_created_by_id", "templates", ["created_by_id"])
    op.create_index("ix_templates_service_id", "templates", ["service_id"])
    op.create_table(
        "templates_history",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name="templates_history_created_by_id_fkey"),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name="templates_history_service_id_fkey"),
        sa.PrimaryKeyConstraint("id", "version", name="templates_history_pkey"),
    )
    op.create_index("ix_templates_history_created_by_id", "templates_history", ["created_by_id"])
    op.create_index("ix_templates_history_service_id", "templates_history", ["service_id"])
    op.create_table(
        "user_to_organisation",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("organisation_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organisation_id"], ["organisations.id"], name="user_to_organisation_organisation_id_fkey"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="user_to_organisation_user_id_fkey"),
        sa.PrimaryKeyConstraint("user_id", "organisation_id", name="user_to_organisation_pkey"),
    )
    op.create_index("ix_user_to_organisation_user_id", "user_to_organisation", ["user_id"])
    op.create_table(
        "user_to_service",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name="user_to_service_service_id_fkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="user_to_service_user_id_fkey"),
        sa.PrimaryKeyConstraint("user_id", "service_id", name="user_to_service_pkey"),
    )
    op.create_index("ix_user_to_service_service_id", "user_to_service", ["service_id"])
    op.create_index("ix_user_to_service_user_id", "user_to_service", ["user_id"])
    op.create_table(
        "verify_codes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("code_hash", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="verify_codes_user_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="verify_codes_pkey"),
    )
    op.create_index("ix_verify_codes_user_id", "verify_codes", ["user_id"])
    op.create_table(
        "webauthn_credential",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("public_key", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="webauthn_credential_user_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="webauthn_credential_pkey"),
    )
    op.create_index("ix_webauthn_credential_user_id", "webauthn_credential", ["user_id"])
    op.create_table(
        "feature_votes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("feature_request_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["feature_request_id"], ["feature_requests.id"], name="feature_votes_feature_request_id_fkey"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="feature_votes_user_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="feature_votes_pkey"),
        sa.UniqueConstraint("feature_request_id", "user_id", name="feature_votes_feature_request_id_user_id_key"),
    )
    op.create_index("ix_feature_votes_user_id", "feature_votes", ["user_id"])
    op.create_table(
        "user_folder_permissions",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("template_folder_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["template_folder_id"], ["template_folders.id"], name="user_folder_permissions_template_folder_id_fkey"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="user_folder_permissions_user_id_fkey"),
        sa.PrimaryKeyConstraint("user_id", "template_folder_id", name="user_folder_permissions_pkey"),
    )
    op.create_index("ix_user_folder_permissions_user_id", "user_folder_permissions", ["user_id"])


def downgrade() -> None:
    op.drop_table("user_folder_permissions")
    op.drop_table("feature_votes")
    op.drop_table("webauthn_credential")
    op.drop_table("verify_codes")
    op.drop_table("user_to_service")
    op.drop_table("user_to_organisation")
    op.drop_table("templates_history")
    op.drop_table("templates")
    op.drop_table("template_folders")
    op.drop_table("support_tickets")
    op.drop_table("service_contact_list")
    op.drop_table("service_callback_api")
    op.drop_table("permissions")
    op.drop_table("login_events")
    op.drop_table("jobs")
    op.drop_table("invited_users")
    op.drop_table("invited_organisation_users")
    op.drop_table("feature_requests")
    op.drop_table("events")
    op.drop_table("api_keys_history")
    op.drop_table("api_keys")
    op.drop_table("organisations")
    op.drop_table("leader_boards")
