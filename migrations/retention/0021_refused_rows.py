"""Rows of any type can be held back, with what refused them; an intent names its letters.

An intent that a killed worker left behind is forgotten: what it covered by a range of times, nobody can name now.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0021"
down_revision = "0016"
branch_labels = None
depends_on = None

RENAMED = (
    "ALTER TABLE retention.deferred_letters RENAME TO deferred_rows",
    "ALTER INDEX retention.deferred_letters_pkey RENAME TO deferred_rows_pkey",
    "ALTER INDEX retention.ix_deferred_letters_service_id RENAME TO ix_deferred_rows_service_id",
    "ALTER INDEX retention.ix_deferred_letters_next_attempt_at RENAME TO ix_deferred_rows_next_attempt_at",
)
RENAMED_BACK = (
    "ALTER INDEX retention.ix_deferred_rows_next_attempt_at RENAME TO ix_deferred_letters_next_attempt_at",
    "ALTER INDEX retention.ix_deferred_rows_service_id RENAME TO ix_deferred_letters_service_id",
    "ALTER INDEX retention.deferred_rows_pkey RENAME TO deferred_letters_pkey",
    "ALTER TABLE retention.deferred_rows RENAME TO deferred_letters",
)


def upgrade() -> None:
    for statement in RENAMED:
        op.execute(statement)
    op.add_column(
        "deferred_rows",
        sa.Column("notification_type", sa.String(), server_default="letter", nullable=False),
        schema="retention",
    )
    op.alter_column("deferred_rows", "notification_type", server_default=None, schema="retention")
    op.add_column("deferred_rows", sa.Column("sqlstate", sa.String(), nullable=True), schema="retention")
    op.add_column("deferred_rows", sa.Column("refused_by", sa.String(), nullable=True), schema="retention")
    op.execute("DELETE FROM retention.intents")
    op.add_column(
        "intents",
        sa.Column("notification_ids", postgresql.ARRAY(sa.Uuid()), nullable=False),
        schema="retention",
    )
    op.drop_column("intents", "from_created_at", schema="retention")
    op.drop_column("intents", "to_created_at", schema="retention")


def downgrade() -> None:
    op.execute("DELETE FROM retention.intents")
    op.add_column(
        "intents", sa.Column("from_created_at", sa.DateTime(timezone=True), nullable=False), schema="retention"
    )
    op.add_column("intents", sa.Column("to_created_at", sa.DateTime(timezone=True), nullable=False), schema="retention")
    op.drop_column("intents", "notification_ids", schema="retention")
    op.execute("DELETE FROM retention.deferred_rows WHERE notification_type <> 'letter'")
    op.drop_column("deferred_rows", "refused_by", schema="retention")
    op.drop_column("deferred_rows", "sqlstate", schema="retention")
    op.drop_column("deferred_rows", "notification_type", schema="retention")
    for statement in RENAMED_BACK:
        op.execute(statement)
