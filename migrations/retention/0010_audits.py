"""Audits of the letter buckets, with examples of what they found and a record of what they deleted.

And an index for asking what went of a service, when. Built without blocking the workers, who write these rows.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

COUNTS = (
    "files_seen",
    "files_without_row",
    "files_of_history",
    "files_within_retention",
    "files_young",
    "files_misplaced",
    "unrecognised_files",
    "deleted_files",
    "rows_seen",
    "rows_without_file",
    "rows_in_mixed_case",
)


def upgrade() -> None:
    _index_steps()
    op.create_table(
        "audits",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("advanced_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("abandoned", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("started_by", sa.String(), nullable=False),
        sa.Column("deletes", sa.Boolean(), nullable=False),
        sa.Column("only_bucket", sa.String(), nullable=True),
        sa.Column("since", sa.Date(), nullable=True),
        sa.Column("until", sa.Date(), nullable=True),
        sa.Column("step", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("phase", sa.String(), server_default="files", nullable=False),
        sa.Column("place", sa.String(), nullable=True),
        sa.Column("position", sa.String(), nullable=True),
        sa.Column("refused", sa.String(), nullable=True),
        *(sa.Column(name, sa.BigInteger(), server_default="0", nullable=False) for name in COUNTS),
        sa.CheckConstraint("phase IN ('files', 'rows')", name=op.f("ck_audits_phase")),
        sa.PrimaryKeyConstraint("id", name="audits_pkey"),
        schema="retention",
    )
    op.create_index("ix_audits_finished_at", "audits", ["finished_at"], schema="retention")
    op.create_index("ix_audits_started_at", "audits", ["started_at"], schema="retention")
    op.create_table(
        "audit_findings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("audit_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=True),
        sa.Column("folder", sa.String(), nullable=True),
        sa.Column("key_sha256", sa.String(), nullable=True),
        sa.Column("last_modified", sa.DateTime(timezone=True), nullable=True),
        sa.Column("notification_id", sa.Uuid(), nullable=True),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "kind IN ('file-of-history', 'file-of-nobody', 'file-misplaced', 'file-within-retention', "
            "'file-unrecognised', 'row-without-file', 'row-in-mixed-case')",
            name=op.f("ck_audit_findings_kind"),
        ),
        sa.ForeignKeyConstraint(
            ["audit_id"], ["retention.audits.id"], name="audit_findings_audit_id_fkey", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="audit_findings_pkey"),
        schema="retention",
    )
    op.create_index("ix_audit_findings_audit_id", "audit_findings", ["audit_id", "kind"], schema="retention")
    op.create_table(
        "audit_deletions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("audit_id", sa.BigInteger(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("deleted_by", sa.String(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=True),
        sa.Column("refused", sa.Integer(), nullable=True),
        sa.Column("code", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["audit_id"], ["retention.audits.id"], name="audit_deletions_audit_id_fkey", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="audit_deletions_pkey"),
        schema="retention",
    )
    op.create_index("ix_audit_deletions_audit_id", "audit_deletions", ["audit_id"], schema="retention")
    op.create_table(
        "audited_letters",
        sa.Column("notification_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("notification_id", name="audited_letters_pkey"),
        schema="retention",
        prefixes=["UNLOGGED"],
    )


def _index_steps() -> None:
    """Before the tables are made, so that it can be tried again.

    Beside writers it waits for every older transaction of the database, a platform's long ones, too, and fails if they
    take too long. Where there are no steps yet nobody writes them.
    """
    if _nothing_was_done():
        op.create_index("ix_steps_service_id_night", "steps", ["service_id", "night"], schema="retention")
        op.drop_index("ix_steps_service_id", "steps", schema="retention")
        return
    with op.get_context().autocommit_block():
        # One that failed before is there, and not valid.
        op.drop_index(
            "ix_steps_service_id_night", "steps", schema="retention", postgresql_concurrently=True, if_exists=True
        )
        op.create_index(
            "ix_steps_service_id_night",
            "steps",
            ["service_id", "night"],
            schema="retention",
            postgresql_concurrently=True,
        )
        op.drop_index("ix_steps_service_id", "steps", schema="retention", postgresql_concurrently=True, if_exists=True)


def _nothing_was_done() -> bool:
    if op.get_context().as_sql:
        return False
    return bool(op.get_bind().scalar(sa.text("SELECT NOT EXISTS (SELECT FROM retention.steps)")))


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_steps_service_id",
            "steps",
            ["service_id", "started_at"],
            schema="retention",
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.drop_index(
            "ix_steps_service_id_night", "steps", schema="retention", postgresql_concurrently=True, if_exists=True
        )
    op.drop_table("audited_letters", schema="retention")
    op.drop_table("audit_deletions", schema="retention")
    op.drop_table("audit_findings", schema="retention")
    op.drop_table("audits", schema="retention")
