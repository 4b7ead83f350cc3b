"""Sweeps of policies that are data, what their batches did, and rows that they hold back."""

import sqlalchemy as sa
from alembic import op

revision = "0066"
down_revision = "0065"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "policy_sweeps",
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("sent_at", INSTANT),
        sa.Column("wakes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_token", sa.Uuid()),
        sa.Column("lease_holder", sa.String()),
        sa.Column("lease_until", INSTANT),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("period", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("step", sa.Integer(), server_default="0", nullable=False),
        sa.Column("state", sa.String(), server_default="waiting", nullable=False),
        sa.Column("reason", sa.String()),
        sa.Column("seen_to", sa.String()),
        sa.Column("seen_key", sa.String()),
        sa.Column("intent", sa.ARRAY(sa.Text())),
        sa.Column("rows", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("files", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("missing", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("deferred", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("finished_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="policy_sweeps_pkey"),
        sa.UniqueConstraint("policy", "period", name="policy_sweeps_policy_period_key"),
        sa.CheckConstraint("state IN ('waiting', 'blocked', 'ended')", name=op.f("ck_policy_sweeps_state")),
        schema="retention",
    )
    op.create_index(
        "ix_policy_sweeps_open",
        "policy_sweeps",
        ["policy"],
        unique=True,
        schema="retention",
        postgresql_where=sa.text("state <> 'ended'"),
    )
    op.create_index(
        "ix_policy_sweeps_due_at",
        "policy_sweeps",
        ["due_at"],
        schema="retention",
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index("ix_policy_sweeps_finished_at", "policy_sweeps", ["finished_at"], schema="retention")
    op.create_table(
        "policy_steps",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("sweep_id", sa.BigInteger(), nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("began_at", INSTANT, nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("missing", sa.Integer(), nullable=False),
        sa.Column("deferred", sa.Integer(), nullable=False),
        sa.Column("services", sa.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("removed_of", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.PrimaryKeyConstraint("id", name="policy_steps_pkey"),
        schema="retention",
    )
    op.create_index("ix_policy_steps_began_at", "policy_steps", ["began_at"], schema="retention")
    op.create_table(
        "policy_deferred",
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("service_id", sa.Uuid()),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("sqlstate", sa.String()),
        sa.Column("refused_by", sa.String()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_failed_at", INSTANT, nullable=False),
        sa.Column("last_failed_at", INSTANT, nullable=False),
        sa.Column("next_attempt_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("policy", "key", name="policy_deferred_pkey"),
        schema="retention",
    )


def downgrade() -> None:
    op.drop_table("policy_deferred", schema="retention")
    op.drop_table("policy_steps", schema="retention")
    op.drop_table("policy_sweeps", schema="retention")
