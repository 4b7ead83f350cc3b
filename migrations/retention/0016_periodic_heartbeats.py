"""Heartbeats of periodic tasks: when each last began its work."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint("ck_heartbeats_kind", "heartbeats", schema="retention")
    op.create_check_constraint(
        op.f("ck_heartbeats_kind"), "heartbeats", "kind IN ('relay', 'worker', 'periodic')", schema="retention"
    )


def downgrade() -> None:
    op.execute("DELETE FROM retention.heartbeats WHERE kind = 'periodic'")
    op.drop_constraint("ck_heartbeats_kind", "heartbeats", schema="retention")
    op.create_check_constraint(
        op.f("ck_heartbeats_kind"), "heartbeats", "kind IN ('relay', 'worker')", schema="retention"
    )
