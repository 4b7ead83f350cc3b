"""The manifest of archived history, and the pages that its rows were read in."""

import sqlalchemy as sa
from alembic import op

revision = "0065"
down_revision = "0053"
branch_labels = None
depends_on = None

STATES = ("writing", "written", "verified", "deleting", "done", "void", "expired")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    listed = ", ".join(f"'{state}'" for state in STATES)
    op.create_table(
        "archives",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("table_name", sa.String(), nullable=False),
        sa.Column("window_from", INSTANT, nullable=False),
        sa.Column("window_before", INSTANT, nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), server_default="writing", nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("key_to_delete", sa.String()),
        sa.Column("version_id", sa.String()),
        sa.Column("etag", sa.String()),
        sa.Column("bytes", sa.BigInteger()),
        sa.Column("sha256", sa.String()),
        sa.Column("schema", sa.String()),
        sa.Column("rows", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("removed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("services", sa.ARRAY(sa.Uuid())),
        sa.Column("first_created_at", INSTANT),
        sa.Column("last_created_at", INSTANT),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("problem", sa.String()),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("verified_at", INSTANT),
        sa.Column("finished_at", INSTANT),
        sa.Column("retry_at", INSTANT),
        sa.Column("lease_token", sa.Uuid()),
        sa.Column("lease_until", INSTANT),
        sa.PrimaryKeyConstraint("id", name="archives_pkey"),
        sa.UniqueConstraint("table_name", "window_from", "part", name="archives_part_key"),
        sa.CheckConstraint(f"state IN ({listed})", name=op.f("ck_archives_state")),
        schema="retention",
    )
    op.create_index(
        "ix_archives_unfinished",
        "archives",
        ["table_name", "window_from"],
        unique=True,
        schema="retention",
        postgresql_where=sa.text("state IN ('writing', 'written', 'verified', 'deleting')"),
    )
    op.create_table(
        "archive_pages",
        sa.Column("archive_id", sa.BigInteger(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=False),
        sa.Column("checksums", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("ids", sa.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("tables", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("addresses", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("versions", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("removed", sa.Integer()),
        sa.PrimaryKeyConstraint("archive_id", "page", name="archive_pages_pkey"),
        sa.ForeignKeyConstraint(
            ["archive_id"], ["retention.archives.id"], name="archive_pages_archive_id_fkey", ondelete="CASCADE"
        ),
        schema="retention",
    )
    op.execute("INSERT INTO retention.turns (name) VALUES ('archive')")


def downgrade() -> None:
    op.execute("DELETE FROM retention.turns WHERE name = 'archive'")
    op.drop_table("archive_pages", schema="retention")
    op.drop_table("archives", schema="retention")
