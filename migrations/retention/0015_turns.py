"""A row for each kind of work that has none of its own, to be locked while it is under way."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0013"
branch_labels = None
depends_on = None

NAMES = ("audit", "by-hand", "exports", "folders", "inactivity", "records", "sessions", "slices", "totals")


def upgrade() -> None:
    turns = op.create_table(
        "turns",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("lockable", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="turns_pkey"),
        schema="retention",
    )
    op.bulk_insert(turns, [{"name": name} for name in NAMES])


def downgrade() -> None:
    op.drop_table("turns", schema="retention")
