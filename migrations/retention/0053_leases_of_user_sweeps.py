"""A sweep over users is a leased row, which says how far it has come. Those of nights before have ended."""

import sqlalchemy as sa
from alembic import op

revision = "0053"
down_revision = "0052"
branch_labels = None
depends_on = None

NEW = ("id", "due_at", "sent_at", "wakes", "attempts", "lease_token", "lease_holder", "lease_until")
PLACE = ("seen_to", "seen_to_id", "pauses", "ended_at")
TABLE, SCHEMA = "user_sweeps", "retention"


def upgrade() -> None:
    instant = sa.DateTime(timezone=True)
    for column in (
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("due_at", instant),
        sa.Column("sent_at", instant),
        sa.Column("wakes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_token", sa.Uuid()),
        sa.Column("lease_holder", sa.String()),
        sa.Column("lease_until", instant),
        sa.Column("seen_to", instant),
        sa.Column("seen_to_id", sa.Uuid()),
        sa.Column("pauses", sa.Integer(), server_default="0", nullable=False),
        sa.Column("ended_at", instant),
    ):
        op.add_column(TABLE, column, schema=SCHEMA)
    op.create_unique_constraint("user_sweeps_id_key", TABLE, ["id"], schema=SCHEMA)
    op.execute(
        "UPDATE retention.user_sweeps SET due_at = coalesce(wake_at, began_at), "
        "ended_at = CASE WHEN wake_at IS NULL AND blocked_by IS NULL THEN began_at END"
    )
    op.alter_column(TABLE, "due_at", nullable=False, schema=SCHEMA)
    op.drop_column(TABLE, "wake_at", schema=SCHEMA)


def downgrade() -> None:
    op.add_column(TABLE, sa.Column("wake_at", sa.DateTime(timezone=True)), schema=SCHEMA)
    op.drop_constraint("user_sweeps_id_key", TABLE, schema=SCHEMA)
    for name in (*NEW, *PLACE):
        op.drop_column(TABLE, name, schema=SCHEMA)
