"""What metrics are told from: totals that outlive the records of steps, and heartbeats."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("steps", sa.Column("failures", postgresql.JSONB(), nullable=True), schema="retention")
    # The steps of before count as counted, without the table being written: totals begin with this migration.
    op.add_column(
        "steps", sa.Column("counted", sa.Boolean(), server_default=sa.true(), nullable=False), schema="retention"
    )
    op.alter_column("steps", "counted", server_default=sa.false(), schema="retention")
    op.create_index("ix_steps_uncounted", "steps", ["id"], postgresql_where=sa.text("NOT counted"), schema="retention")
    op.create_table(
        "session_batches",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sessions", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="session_batches_pkey"),
        schema="retention",
    )
    op.create_table(
        "totals",
        sa.Column("counter", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("bound", sa.Float(), nullable=False),
        sa.Column("amount", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("counter", "label", "bound", name="totals_pkey"),
        schema="retention",
    )
    op.create_table(
        "heartbeats",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('relay', 'worker')", name=op.f("ck_heartbeats_kind")),
        sa.PrimaryKeyConstraint("kind", "name", name="heartbeats_pkey"),
        schema="retention",
    )


def downgrade() -> None:
    op.drop_table("heartbeats", schema="retention")
    op.drop_table("totals", schema="retention")
    op.drop_table("session_batches", schema="retention")
    op.drop_index("ix_steps_uncounted", "steps", schema="retention")
    op.drop_column("steps", "counted", schema="retention")
    op.drop_column("steps", "failures", schema="retention")
