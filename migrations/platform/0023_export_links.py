"""Accounts: an export is fetched through the API, by its owner or by whoever has the link of the email."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

INDEX = "ix_user_exports_link_hash"


def upgrade() -> None:
    op.add_column("user_exports", sa.Column("link_hash", sa.LargeBinary(), nullable=True))
    with op.get_context().autocommit_block():
        op.create_index(
            INDEX,
            "user_exports",
            ["link_hash"],
            postgresql_where=sa.text("link_hash IS NOT NULL"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    op.drop_index(INDEX, "user_exports")
    op.drop_column("user_exports", "link_hash")
