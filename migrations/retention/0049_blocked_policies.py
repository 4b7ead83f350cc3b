"""Which policies are blocked, and why, for those who only look."""

import sqlalchemy as sa
from alembic import op

revision = "0049"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blocked_policies",
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("sentence", sa.String(), nullable=False),
        sa.Column("fix", sa.String(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("policy", name=op.f("blocked_policies_pkey")),
        schema="retention",
    )


def downgrade() -> None:
    op.drop_table("blocked_policies", schema="retention")
