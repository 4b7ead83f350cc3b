"""Audits: how often in a row one has failed in the same way, so that it is abandoned and the next begins."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audits", sa.Column("failures", sa.Integer(), server_default="0", nullable=False), schema="retention")
    op.add_column("audits", sa.Column("failure", sa.String(), nullable=True), schema="retention")


def downgrade() -> None:
    op.drop_column("audits", "failure", schema="retention")
    op.drop_column("audits", "failures", schema="retention")
