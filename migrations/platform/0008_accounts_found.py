"""Accounts: deletions that nobody captured are found, those without a first step can be taken back, old records go.

Also: failed exports are told.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0006"
branch_labels = None
depends_on = None

# {captured_before} and {nothing_done} are what this migration changes.
CAPTURE = """
CREATE OR REPLACE FUNCTION capture_user_deletion() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp AS $$
-- As the tables' owner, so that whoever may write the flag need not be able to write requests.
BEGIN
    IF public.user_in_deletion(NEW.flags) IS NULL THEN
        INSERT INTO malformed_flags (user_id) VALUES (NEW.id)
        ON CONFLICT (user_id) DO UPDATE SET noticed_at = clock_timestamp();
        RAISE WARNING USING MESSAGE = concat('the flags of user ', NEW.id, ' are malformed: nothing follows');
        RETURN NULL;
    END IF;
    DELETE FROM malformed_flags WHERE user_id = NEW.id;
    IF TG_OP = 'UPDATE'
        AND public.user_in_deletion(NEW.flags) IS NOT DISTINCT FROM public.user_in_deletion(OLD.flags)
        {captured_before}
    THEN
        RETURN NULL;
    END IF;
    IF public.user_in_deletion(NEW.flags) THEN
        INSERT INTO user_deletions (user_id, confirmation_address) VALUES (NEW.id, NEW.email_address)
        ON CONFLICT (user_id) DO UPDATE
        SET state = 'requested', reason = NULL, requested_by = 'database', requested_by_id = NULL,
            requested_at = clock_timestamp(), due_at = clock_timestamp(), sent_at = NULL, completed_at = NULL,
            items = NULL, rows_done = 0, files_done = 0, attempts = 0, started_at = NULL,
            lease_until = NULL, lease_token = NULL, confirmation_address = excluded.confirmation_address,
            confirmation_attempts = 0, confirmation_failure = NULL, confirmed_at = NULL
        WHERE user_deletions.state IN ('blocked', 'complete');
    ELSE
        -- Taken back before anything was deleted.
        DELETE FROM user_deletions
        WHERE user_id = NEW.id AND (state IN ('requested', 'blocked') {nothing_done});
    END IF;
    RETURN NULL;
END
$$
"""
CAPTURED_BEFORE = """
        AND (public.user_in_deletion(NEW.flags) IS NOT TRUE
             OR EXISTS (SELECT FROM user_deletions WHERE user_id = NEW.id))
"""
# A lease that was not given back is somebody's who may have deleted files and not come to say so.
NOTHING_DONE = "OR (state = 'running' AND rows_done = 0 AND files_done = 0 AND lease_token IS NULL)"

IN_DELETION = "user_in_deletion(flags)"
OLD_UNSENT = "state = 'ready' AND email_address IS NOT NULL"
UNSENT = "state IN ('ready', 'failed') AND email_address IS NOT NULL"


def upgrade() -> None:
    op.execute(CAPTURE.format(captured_before=CAPTURED_BEFORE, nothing_done=NOTHING_DONE))
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_users_in_deletion",
            "users",
            ["id"],
            postgresql_where=sa.text(IN_DELETION),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.create_index(
            "ix_user_deletions_completed_at",
            "user_deletions",
            ["completed_at"],
            postgresql_where=sa.text("state = 'complete'"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.create_index(
            "ix_user_exports_untold",
            "user_exports",
            ["due_at"],
            postgresql_where=sa.text(UNSENT),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.drop_index("ix_user_exports_unsent", "user_exports", postgresql_concurrently=True, if_exists=True)


def downgrade() -> None:
    op.create_index("ix_user_exports_unsent", "user_exports", ["due_at"], postgresql_where=sa.text(OLD_UNSENT))
    op.drop_index("ix_user_exports_untold", "user_exports")
    op.drop_index("ix_user_deletions_completed_at", "user_deletions")
    op.drop_index("ix_users_in_deletion", "users")
    op.execute(CAPTURE.format(captured_before="", nothing_done=""))
