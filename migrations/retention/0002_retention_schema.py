"""The pipeline's own tables, in a schema of their own.

No revision of this branch names a table of the platform's or of accounts: it is also installed beside the tables of a
platform that has its own (docs/adr/0029).
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = None
branch_labels = ("retention",)
depends_on = None


def upgrade() -> None:
    # Not IF NOT EXISTS, which asks for the right to make schemas even where somebody else has made this one.
    schema = op.get_context().opts["retention_schema"]
    op.execute(f"DO $$ BEGIN IF to_regnamespace('{schema}') IS NULL THEN CREATE SCHEMA \"{schema}\"; END IF; END $$")
    op.create_table(
        "accepted_missing",
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("accepted_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("night", "bucket", name="accepted_missing_pkey"),
        schema="retention",
    )
    op.create_table(
        "deferred_buckets",
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("cutoff", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("service_id", "bucket", "kind", name="deferred_buckets_pkey"),
        schema="retention",
    )
    op.create_index("ix_deferred_buckets_next_attempt_at", "deferred_buckets", ["next_attempt_at"], schema="retention")
    op.create_table(
        "deferred_letters",
        sa.Column("notification_id", sa.Uuid(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("cutoff", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("needs_person", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("notification_id", name="deferred_letters_pkey"),
        schema="retention",
    )
    op.create_index("ix_deferred_letters_next_attempt_at", "deferred_letters", ["next_attempt_at"], schema="retention")
    op.create_index(
        "ix_deferred_letters_service_id", "deferred_letters", ["service_id", "next_attempt_at"], schema="retention"
    )
    op.create_table(
        "holds",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("placed_by", sa.String(), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("scope", name="holds_pkey"),
        schema="retention",
    )
    op.create_table(
        "intents",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=True),
        sa.Column("step", sa.Integer(), nullable=True),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("looked_in", sa.String(), nullable=False),
        sa.Column("from_created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("to_created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="intents_pkey"),
        schema="retention",
    )
    op.create_index("ix_intents_service_id", "intents", ["service_id", "kind"], schema="retention")
    op.create_table(
        "letter_looks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("looked", sa.Integer(), nullable=False),
        sa.Column("missing", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="letter_looks_pkey"),
        schema="retention",
    )
    op.create_index("ix_letter_looks_night", "letter_looks", ["night", "bucket"], schema="retention")
    op.create_table(
        "runs",
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("night", name="runs_pkey"),
        schema="retention",
    )
    op.create_table(
        "steps",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=True),
        sa.Column("task_id", sa.String(), nullable=True),
        sa.Column("notification_type", sa.String(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("cutoff", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("slice", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("chosen", sa.Integer(), nullable=False),
        sa.Column("moved", sa.Integer(), nullable=False),
        sa.Column("deleted", sa.Integer(), nullable=False),
        sa.Column("files_deleted", sa.Integer(), nullable=False),
        sa.Column("without_file", sa.Integer(), nullable=False),
        sa.Column("deferred", sa.Integer(), nullable=False),
        sa.Column("not_final", sa.Integer(), nullable=True),
        sa.Column("min_created_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("max_created_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="steps_pkey"),
        schema="retention",
    )
    op.create_index("ix_steps_night", "steps", ["night", "notification_type"], schema="retention")
    op.create_index("ix_steps_service_id", "steps", ["service_id", "started_at"], schema="retention")
    op.create_index("ix_steps_started_at", "steps", ["started_at"], schema="retention")
    op.create_table(
        "chains",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("notification_type", sa.String(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("cutoff", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("slice", sa.Integer(), server_default="0", nullable=False),
        sa.Column("slice_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("slice_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("step", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lower_bound", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rows_per_step", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(), server_default="waiting", nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("missing_in", sa.String(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("wakes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("setbacks", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_holder", sa.String(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("stage IN ('real', 'test', 'deferred')", name=op.f("ck_chains_stage")),
        sa.CheckConstraint("state IN ('waiting', 'resting', 'ended')", name=op.f("ck_chains_state")),
        sa.ForeignKeyConstraint(["night"], ["retention.runs.night"], name="chains_night_fkey"),
        sa.PrimaryKeyConstraint("id", name="chains_pkey"),
        sa.UniqueConstraint(
            "night", "notification_type", "service_id", "cutoff", "stage", "slice", name="chains_identity_key"
        ),
        schema="retention",
    )
    op.create_index(
        "ix_chains_due_at", "chains", ["due_at"], schema="retention", postgresql_where=sa.text("state = 'waiting'")
    )
    op.create_index(
        "ix_chains_reason", "chains", ["reason"], schema="retention", postgresql_where=sa.text("state = 'resting'")
    )
    op.create_index("ix_chains_service_id", "chains", ["service_id"], schema="retention")
    op.create_table(
        "run_types",
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("notification_type", sa.String(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fanned_out_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("services", sa.Integer(), nullable=True),
        sa.Column("rows_without_service", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["night"], ["retention.runs.night"], name="run_types_night_fkey"),
        sa.PrimaryKeyConstraint("night", "notification_type", name="run_types_pkey"),
        schema="retention",
    )


def downgrade() -> None:
    op.drop_table("run_types", schema="retention")
    op.drop_table("chains", schema="retention")
    op.drop_table("steps", schema="retention")
    op.drop_table("runs", schema="retention")
    op.drop_table("letter_looks", schema="retention")
    op.drop_table("intents", schema="retention")
    op.drop_table("holds", schema="retention")
    op.drop_table("deferred_letters", schema="retention")
    op.drop_table("deferred_buckets", schema="retention")
    op.drop_table("accepted_missing", schema="retention")
    if op.get_context().version_table_schema is None:  # else the table of revisions is still in it
        op.execute(f'DROP SCHEMA "{op.get_context().opts["retention_schema"]}"')
