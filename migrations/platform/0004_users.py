"""Users, their sessions, and the records of deletions and exports.

Whoever marks an account (`flags.in_deletion`), the API, a sweep or an operator's SQL, starts its deletion: a trigger
writes the request in the same transaction. The ghost user can be neither marked nor deleted.
"""

import uuid

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0001"
branch_labels = None
depends_on = None

GHOST = uuid.UUID("00000000-0000-4000-8000-00000000dead")

FLAGS = """
CREATE FUNCTION user_flags(flags jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
-- The flags as an object, which they are or hold as a JSON string. NULL when they are malformed.
BEGIN
    IF flags IS NULL OR jsonb_typeof(flags) = 'null' THEN
        RETURN '{}';
    END IF;
    IF jsonb_typeof(flags) = 'string' THEN
        flags := (flags #>> '{}')::jsonb;
    END IF;
    RETURN CASE WHEN jsonb_typeof(flags) = 'object' THEN flags END;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN NULL;
END
$$
"""

IN_DELETION = """
CREATE FUNCTION user_in_deletion(flags jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    -- NULL when the flags are malformed.
    SELECT CASE coalesce(read.flags ->> 'in_deletion', CASE WHEN read.flags IS NOT NULL THEN 'false' END)
               WHEN 'true' THEN true WHEN 'false' THEN false
           END
    FROM (SELECT public.user_flags(flags) AS flags) AS read
$$
"""

CAPTURE = """
CREATE FUNCTION capture_user_deletion() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp AS $$
-- As the tables' owner, so that whoever may write the flag need not be able to write requests.
BEGIN
    IF public.user_in_deletion(NEW.flags) IS NULL THEN
        INSERT INTO malformed_flags (user_id) VALUES (NEW.id)
        ON CONFLICT (user_id) DO UPDATE SET noticed_at = clock_timestamp();
        RAISE WARNING USING MESSAGE = concat('the flags of user ', NEW.id, ' are malformed: nothing follows');
        RETURN NULL;
    END IF;
    DELETE FROM malformed_flags WHERE user_id = NEW.id;
    IF TG_OP = 'UPDATE'
        AND public.user_in_deletion(NEW.flags) IS NOT DISTINCT FROM public.user_in_deletion(OLD.flags)
    THEN
        RETURN NULL;
    END IF;
    IF public.user_in_deletion(NEW.flags) THEN
        INSERT INTO user_deletions (user_id, confirmation_address) VALUES (NEW.id, NEW.email_address)
        ON CONFLICT (user_id) DO UPDATE
        SET state = 'requested', reason = NULL, requested_by = 'database', requested_by_id = NULL,
            requested_at = clock_timestamp(), due_at = clock_timestamp(), sent_at = NULL, completed_at = NULL,
            items = NULL, rows_done = 0, files_done = 0, attempts = 0, started_at = NULL,
            lease_until = NULL, lease_token = NULL, confirmation_address = excluded.confirmation_address,
            confirmation_attempts = 0, confirmation_failure = NULL, confirmed_at = NULL
        WHERE user_deletions.state IN ('blocked', 'complete');
    ELSE
        -- Taken back before anything was deleted.
        DELETE FROM user_deletions WHERE user_id = NEW.id AND state IN ('requested', 'blocked');
    END IF;
    RETURN NULL;
END
$$
"""

CAPTURE_TRIGGER = """
CREATE TRIGGER capture_user_deletion AFTER INSERT OR UPDATE OF flags ON users
    FOR EACH ROW EXECUTE FUNCTION capture_user_deletion()
"""

PROTECT = """
CREATE FUNCTION protect_ghost_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'the ghost user cannot be deleted' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.id <> OLD.id OR public.user_in_deletion(NEW.flags) IS NOT FALSE OR NEW.state <> OLD.state THEN
        RAISE EXCEPTION 'the ghost user cannot be marked or changed' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$
"""

PROTECT_TRIGGER = """
CREATE TRIGGER protect_ghost_user BEFORE UPDATE OR DELETE ON users
    FOR EACH ROW WHEN (OLD.id = '00000000-0000-4000-8000-00000000dead') EXECUTE FUNCTION protect_ghost_user()
"""


def upgrade() -> None:
    op.create_table(
        "email_rate",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("next_slot_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name="one_row"),
        sa.PrimaryKeyConstraint("id", name="email_rate_pkey"),
    )
    op.create_table(
        "malformed_flags",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column(
            "noticed_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("user_id", name="malformed_flags_pkey"),
    )
    op.create_table(
        "retained_emails",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email_address", sa.String(), nullable=False),
        sa.Column("retained_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="retained_emails_pkey"),
    )
    op.create_table(
        "user_deletions",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(), server_default="requested", nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("requested_by", sa.String(), server_default="database", nullable=False),
        sa.Column("requested_by_id", sa.Uuid(), nullable=True),
        sa.Column(
            "requested_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("items", sa.Integer(), nullable=True),
        sa.Column("rows_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("files_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("confirmation_address", sa.String(), nullable=True),
        sa.Column("confirmation_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("confirmation_failure", sa.String(), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('requested', 'running', 'blocked', 'complete')", name="state"),
        sa.PrimaryKeyConstraint("user_id", name="user_deletions_pkey"),
    )
    op.create_index(
        "ix_user_deletions_due_at",
        "user_deletions",
        ["due_at"],
        postgresql_where=sa.text("state IN ('requested', 'running')"),
    )
    op.create_index("ix_user_deletions_requested_by_id", "user_deletions", ["requested_by_id"])
    op.create_index("ix_user_deletions_state", "user_deletions", ["state", "requested_at"])
    op.create_index(
        "ix_user_deletions_unconfirmed",
        "user_deletions",
        ["due_at"],
        postgresql_where=sa.text("state = 'complete' AND confirmation_address IS NOT NULL"),
    )
    op.create_table(
        "user_exports",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(), server_default="requested", nullable=False),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("object_key", sa.String(), nullable=True),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("email_address", sa.String(), nullable=True),
        sa.Column("emailed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('requested', 'running', 'ready', 'failed', 'expired')", name="state"),
        sa.PrimaryKeyConstraint("id", name="user_exports_pkey"),
    )
    op.create_index(
        "ix_user_exports_due_at",
        "user_exports",
        ["due_at"],
        postgresql_where=sa.text("state IN ('requested', 'running')"),
    )
    op.create_index(
        "ix_user_exports_expires_at",
        "user_exports",
        ["expires_at"],
        postgresql_where=sa.text("state IN ('ready', 'failed')"),
    )
    op.create_index(
        "ix_user_exports_unsent",
        "user_exports",
        ["due_at"],
        postgresql_where=sa.text("state = 'ready' AND email_address IS NOT NULL"),
    )
    op.create_index("ix_user_exports_user_id", "user_exports", ["user_id"])
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("email_address", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("flags", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("state", sa.String(), server_default="pending", nullable=False),
        sa.Column("platform_admin", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("last_visit_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("free_trial_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lifetime_deal", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("subscription", postgresql.JSONB(), nullable=True),
        sa.Column("deletion_warning_sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deletion_warning_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("deletion_warning_failure", sa.String(), nullable=True),
        sa.Column("deletion_warning_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("invited_by_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'active', 'inactive')", name="state"),
        sa.CheckConstraint("deletion_warning_attempts >= 0", name="deletion_warning_attempts"),
        sa.ForeignKeyConstraint(["invited_by_id"], ["users.id"], name="users_invited_by_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="users_pkey"),
        sa.UniqueConstraint("email_address", name="users_email_address_key"),
    )
    op.create_index("ix_users_invited_by_id", "users", ["invited_by_id"])
    op.create_index("ix_users_last_seen", "users", [sa.literal_column("coalesce(last_visit_at, created_at)"), "id"])
    op.create_index(
        "ix_users_never_completed", "users", ["created_at", "id"], postgresql_where=sa.text("state = 'pending'")
    )
    op.create_table(
        "user_sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="user_sessions_user_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="user_sessions_pkey"),
        sa.UniqueConstraint("token_hash", name="user_sessions_token_hash_key"),
    )
    op.create_index(
        "ix_user_sessions_anonymous", "user_sessions", ["created_at", "id"], postgresql_where=sa.text("user_id IS NULL")
    )
    op.create_index("ix_user_sessions_expires_at", "user_sessions", ["expires_at", "id"])
    op.create_index(
        "ix_user_sessions_user_id", "user_sessions", ["user_id"], postgresql_where=sa.text("user_id IS NOT NULL")
    )
    for statement in (FLAGS, IN_DELETION, CAPTURE, CAPTURE_TRIGGER, PROTECT, PROTECT_TRIGGER):
        op.execute(statement)
    op.execute(
        sa.text(
            "INSERT INTO users (id, name, email_address, state, created_at) "
            "VALUES (:id, 'Deleted user', 'deleted-user@invalid', 'inactive', now())"
        ).bindparams(id=GHOST)
    )


def downgrade() -> None:
    op.drop_table("user_sessions")
    op.drop_table("users")
    op.drop_table("user_exports")
    op.drop_table("user_deletions")
    op.drop_table("retained_emails")
    op.drop_table("malformed_flags")
    op.drop_table("email_rate")
    for function in ("protect_ghost_user()", "capture_user_deletion()", "user_in_deletion(jsonb)", "user_flags(jsonb)"):
        op.execute(f"DROP FUNCTION {function}")
