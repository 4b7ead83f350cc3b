"""Deletions and exports have the columns of every leased row."""

import sqlalchemy as sa
from alembic import op

revision = "0051"
down_revision = "0038"
branch_labels = None
depends_on = None

TABLES = ("user_deletions", "user_exports")


def upgrade() -> None:
    op.add_column("user_exports", sa.Column("sent_at", sa.DateTime(timezone=True)))
    for table in TABLES:
        op.add_column(table, sa.Column("wakes", sa.Integer(), server_default="0", nullable=False))
        op.add_column(table, sa.Column("lease_holder", sa.String()))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "lease_holder")
        op.drop_column(table, "wakes")
    op.drop_column("user_exports", "sent_at")
