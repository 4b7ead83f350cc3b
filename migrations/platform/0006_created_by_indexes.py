"""Find what a user made by hand. Built without blocking writers, since these tables are large."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = ("notifications", "notification_history")


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for table in TABLES:
            op.create_index(
                f"ix_{table}_created_by_id",
                table,
                ["created_by_id"],
                postgresql_where=sa.text("created_by_id IS NOT NULL"),
                postgresql_concurrently=True,
                if_not_exists=True,
            )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for table in TABLES:
            op.drop_index(f"ix_{table}_created_by_id", table, postgresql_concurrently=True, if_exists=True)
