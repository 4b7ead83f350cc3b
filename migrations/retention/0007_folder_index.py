"""The night's index of letter folders, and how many files without a row they had."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Unlogged, both: after a crash both are empty, so that nothing counts as indexed whose files are not there.
    op.create_table(
        "indexed_folders",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("store", sa.String(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("folder", sa.String(), nullable=False),
        sa.Column("worth_pages", sa.Integer(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("pages", sa.Integer(), server_default="0", nullable=False),
        sa.Column("listed_to", sa.String(), nullable=True),
        sa.Column("files", sa.Integer(), server_default="0", nullable=False),
        sa.Column("orphans", sa.Integer(), server_default="0", nullable=False),
        sa.Column("complete", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="indexed_folders_pkey"),
        sa.UniqueConstraint("store", "bucket", "folder", name="indexed_folders_identity_key"),
        schema="retention",
        prefixes=["UNLOGGED"],
    )
    op.create_table(
        "indexed_files",
        sa.Column("folder_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("rest", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("folder_id", "reference", "rest", name="indexed_files_pkey"),
        schema="retention",
        prefixes=["UNLOGGED"],
    )
    op.create_table(
        "folder_counts",
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("folder", sa.String(), nullable=False),
        sa.Column("listed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("orphans", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("night", "bucket", "folder", name="folder_counts_pkey"),
        schema="retention",
    )


def downgrade() -> None:
    op.drop_table("folder_counts", schema="retention")
    op.drop_table("indexed_files", schema="retention")
    op.drop_table("indexed_folders", schema="retention")
