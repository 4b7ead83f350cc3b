"""Before which transaction an index of a letters' folder was begun."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # 0: nothing was written before it. An index of a version that did not ask proves nothing.
    op.add_column(
        "indexed_folders",
        sa.Column("begun_xmin", sa.BigInteger(), server_default="0", nullable=False),
        schema="retention",
    )


def downgrade() -> None:
    op.drop_column("indexed_folders", "begun_xmin", schema="retention")
