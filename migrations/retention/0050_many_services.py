"""A chain may be for all services that share a retention, and a step's record for many services."""

import sqlalchemy as sa
from alembic import op

revision = "0050"
down_revision = "0049"
branch_labels = None
depends_on = None

OWN_COLUMNS = ("days", "after_service", "first_service", "last_service")


def upgrade() -> None:
    op.alter_column("chains", "service_id", nullable=True, schema="retention")
    op.add_column("chains", sa.Column("days", sa.Integer()), schema="retention")
    for name in OWN_COLUMNS[1:]:
        op.add_column("chains", sa.Column(name, sa.Uuid()), schema="retention")
    op.create_index(
        "ix_chains_of_many",
        "chains",
        ["night", "notification_type", "days", "cutoff", "stage", "slice"],
        unique=True,
        schema="retention",
        postgresql_where=sa.text("service_id IS NULL"),
    )
    op.create_check_constraint(
        op.f("ck_chains_days"), "chains", "(service_id IS NULL) = (days IS NOT NULL)", schema="retention"
    )
    op.alter_column("steps", "service_id", nullable=True, schema="retention")
    op.add_column("steps", sa.Column("services", sa.ARRAY(sa.Uuid())), schema="retention")
    op.add_column("steps", sa.Column("removed_of", sa.ARRAY(sa.Integer())), schema="retention")
    op.create_index("ix_steps_services", "steps", ["services"], schema="retention", postgresql_using="gin")


def downgrade() -> None:
    op.drop_index("ix_steps_services", table_name="steps", schema="retention")
    op.execute("DELETE FROM retention.steps WHERE service_id IS NULL")
    op.drop_column("steps", "removed_of", schema="retention")
    op.drop_column("steps", "services", schema="retention")
    op.alter_column("steps", "service_id", nullable=False, schema="retention")
    op.execute("DELETE FROM retention.chains WHERE service_id IS NULL")
    op.drop_constraint(op.f("ck_chains_days"), "chains", schema="retention")
    op.drop_index("ix_chains_of_many", table_name="chains", schema="retention")
    for name in OWN_COLUMNS:
        op.drop_column("chains", name, schema="retention")
    op.alter_column("chains", "service_id", nullable=False, schema="retention")
