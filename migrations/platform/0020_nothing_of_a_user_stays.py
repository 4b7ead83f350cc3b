"""Accounts: the ghost user's row can't be changed, invitations are found by address, and exports say what they hold."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0014"
branch_labels = None
depends_on = None

# A deletion needs no change of the ghost user's row: what refers to it locks it, and that is no update. Writing what is
# there already (as a restore does) is no change. Compared byte by byte, so that no column's type needs an equality.
PROTECT = """
CREATE OR REPLACE FUNCTION protect_ghost_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'the ghost user cannot be deleted' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF {is_changed} THEN
        RAISE EXCEPTION 'the ghost user cannot be marked or changed' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$
"""
ANY_COLUMN = "NEW *<> OLD"
SOME_COLUMNS = "NEW.id <> OLD.id OR public.user_in_deletion(NEW.flags) IS NOT FALSE OR NEW.state <> OLD.state"

INVITATIONS = ("invited_users", "invited_organisation_users")


def upgrade() -> None:
    op.execute(PROTECT.format(is_changed=ANY_COLUMN))
    op.add_column("user_exports", sa.Column("files", sa.Integer(), nullable=True))
    op.add_column("user_exports", sa.Column("files_left_out", sa.Integer(), nullable=True))
    with op.get_context().autocommit_block():
        for table in INVITATIONS:
            op.create_index(
                f"ix_{table}_address",
                table,
                [sa.text("lower(email_address)")],
                postgresql_concurrently=True,
                if_not_exists=True,
            )
        op.create_index(
            "ix_user_exports_ended",
            "user_exports",
            ["requested_at"],
            postgresql_where=sa.text("state IN ('failed', 'expired')"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_user_exports_ended", "user_exports", postgresql_concurrently=True, if_exists=True)
        for table in INVITATIONS:
            op.drop_index(f"ix_{table}_address", table, postgresql_concurrently=True, if_exists=True)
    op.drop_column("user_exports", "files_left_out")
    op.drop_column("user_exports", "files")
    op.execute(PROTECT.format(is_changed=SOME_COLUMNS))
