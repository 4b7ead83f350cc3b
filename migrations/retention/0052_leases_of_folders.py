"""Indexed folders have the columns of every leased row."""

import sqlalchemy as sa
from alembic import op

revision = "0052"
down_revision = "0050"
branch_labels = None
depends_on = None

NEW = ("due_at", "sent_at", "wakes", "lease_holder")


def upgrade() -> None:
    # Each index is made anew within a day; one that is under way is begun anew.
    op.execute("TRUNCATE retention.indexed_folders, retention.indexed_files")
    for column in (
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True)),
        sa.Column("wakes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_holder", sa.String()),
    ):
        op.add_column("indexed_folders", column, schema="retention")


def downgrade() -> None:
    for name in NEW:
        op.drop_column("indexed_folders", name, schema="retention")
