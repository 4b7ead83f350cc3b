"""Who did what by hand, who is logged in to the ops page, and who tried to log in, there or to an account."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ops_actions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("acted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("acted_by", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=True),
        sa.Column("detail", sa.String(), nullable=True),
        sa.Column("count", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="ops_actions_pkey"),
        schema="retention",
    )
    op.create_index("ix_ops_actions_acted_at", "ops_actions", ["acted_at"], schema="retention")
    op.create_table(
        "ops_sessions",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name="ops_sessions_pkey"),
        schema="retention",
    )
    # The page counts log-ins in the same table as the API, and is there without accounts, too.
    op.create_table(
        "login_attempts",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name="login_attempts_pkey"),
        schema="retention",
    )
    op.create_index("ix_login_attempts_ends_at", "login_attempts", ["ends_at"], schema="retention")


def downgrade() -> None:
    op.drop_table("login_attempts", schema="retention")
    op.drop_table("ops_sessions", schema="retention")
    op.drop_table("ops_actions", schema="retention")
