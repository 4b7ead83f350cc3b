"""What stops a sweep's batches is data: on the sweep's row, and one record for each batch that failed."""

import sqlalchemy as sa
from alembic import op

revision = "0069"
down_revision = "0066"
branch_labels = None
depends_on = None

FAILURE = ("error_class", "sqlstate", "refused_by", "refused_table", "s3_code")


def upgrade() -> None:
    for name in FAILURE:
        op.add_column("chains", sa.Column(name, sa.String()), schema="retention")
    op.create_table(
        "batch_failures",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("service_id", sa.Uuid()),
        sa.Column("error_class", sa.String(), nullable=False),
        *(sa.Column(name, sa.String()) for name in FAILURE[1:]),
        sa.PrimaryKeyConstraint("id", name="batch_failures_pkey"),
        schema="retention",
    )
    op.create_index("ix_batch_failures_failed_at", "batch_failures", ["failed_at"], schema="retention")


def downgrade() -> None:
    op.drop_table("batch_failures", schema="retention")
    for name in FAILURE:
        op.drop_column("chains", name, schema="retention")
