"""Users: the address that the warning about inactivity went to, and an index of the platform's administrators.

A warning that was sent before counts as none, since nobody knows where it went: it is sent again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("deletion_warning_address", sa.String(), nullable=True))
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_users_platform_admin",
            "users",
            ["id"],
            postgresql_where=sa.text("platform_admin"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    op.drop_index("ix_users_platform_admin", "users")
    op.drop_column("users", "deletion_warning_address")
