"""What a chain remembers of a letter that failed alone in its step."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("chains", sa.Column("alone_letter", sa.Uuid(), nullable=True), schema="retention")
    op.add_column(
        "chains", sa.Column("alone_failures", sa.Integer(), server_default="0", nullable=False), schema="retention"
    )


def downgrade() -> None:
    op.drop_column("chains", "alone_failures", schema="retention")
    op.drop_column("chains", "alone_letter", schema="retention")
