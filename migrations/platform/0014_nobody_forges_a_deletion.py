"""Accounts: nobody but the table of users has a deletion captured, and no function of ours is everybody's to call.

The address that a confirmation goes to is taken from the user's row when that row goes, so that a request holds none.
"""

from alembic import op

revision = "0014"
down_revision = "0008"
branch_labels = None
depends_on = None

# {is_for_users}, {insert} and {address} are what this migration changes.
CAPTURE = """
CREATE OR REPLACE FUNCTION capture_user_deletion() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp AS $$
-- As the tables' owner, so that whoever may write the flag need not be able to write requests.
BEGIN
    {is_for_users}IF public.user_in_deletion(NEW.flags) IS NULL THEN
        INSERT INTO malformed_flags (user_id) VALUES (NEW.id)
        ON CONFLICT (user_id) DO UPDATE SET noticed_at = clock_timestamp();
        RAISE WARNING USING MESSAGE = concat('the flags of user ', NEW.id, ' are malformed: nothing follows');
        RETURN NULL;
    END IF;
    DELETE FROM malformed_flags WHERE user_id = NEW.id;
    IF TG_OP = 'UPDATE'
        AND public.user_in_deletion(NEW.flags) IS NOT DISTINCT FROM public.user_in_deletion(OLD.flags)
        AND (public.user_in_deletion(NEW.flags) IS NOT TRUE
             OR EXISTS (SELECT FROM user_deletions WHERE user_id = NEW.id))
    THEN
        RETURN NULL;
    END IF;
    IF public.user_in_deletion(NEW.flags) THEN
        INSERT INTO user_deletions {insert}
        ON CONFLICT (user_id) DO UPDATE
        SET state = 'requested', reason = NULL, requested_by = 'database', requested_by_id = NULL,
            requested_at = clock_timestamp(), due_at = clock_timestamp(), sent_at = NULL, completed_at = NULL,
            items = NULL, rows_done = 0, files_done = 0, attempts = 0, started_at = NULL,
            lease_until = NULL, lease_token = NULL, confirmation_address = {address},
            confirmation_attempts = 0, confirmation_failure = NULL, confirmed_at = NULL
        WHERE user_deletions.state IN ('blocked', 'complete');
    ELSE
        -- Taken back before anything was deleted.
        DELETE FROM user_deletions
        WHERE user_id = NEW.id
          AND (state IN ('requested', 'blocked')
               OR (state = 'running' AND rows_done = 0 AND files_done = 0 AND lease_token IS NULL));
    END IF;
    RETURN NULL;
END
$$
"""
IS_FOR_USERS = """IF TG_RELID <> 'public.users'::regclass THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = concat('capture_user_deletion() is not for the table ', TG_RELID::regclass);
    END IF;
    """
OF_THE_ROW = "(user_id) SELECT users.id FROM users WHERE users.id = NEW.id AND user_in_deletion(users.flags)"
OF_THE_REQUEST = "(user_id, confirmation_address) VALUES (NEW.id, NEW.email_address)"

# The flags are read by an index, too: whoever may write users today must be able to go on with it.
KEEP_FOR_WRITERS = """
DO $$
DECLARE
    writer record;
BEGIN
    FOR writer IN
        SELECT DISTINCT granted.grantee::regrole AS role
        FROM (
            SELECT relacl AS acl FROM pg_class WHERE oid = 'public.users'::regclass
            UNION ALL
            SELECT attacl FROM pg_attribute WHERE attrelid = 'public.users'::regclass
        ) AS lists
        CROSS JOIN LATERAL aclexplode(lists.acl) AS granted
        WHERE granted.privilege_type IN ('INSERT', 'UPDATE') AND granted.grantee <> 0
    LOOP
        EXECUTE ('GRANT EXECUTE ON FUNCTION user_flags(jsonb), user_in_deletion(jsonb) TO ' || writer.role);
    END LOOP;
END
$$
"""
FUNCTIONS = "user_flags(jsonb), user_in_deletion(jsonb), capture_user_deletion(), protect_ghost_user()"


def upgrade() -> None:
    op.execute(CAPTURE.format(is_for_users=IS_FOR_USERS, insert=OF_THE_ROW, address="NULL"))
    op.execute(KEEP_FOR_WRITERS)
    op.execute(f"REVOKE EXECUTE ON FUNCTION {FUNCTIONS} FROM PUBLIC")
    # What deletions under way have: they are given it when the user's row goes.
    op.execute("UPDATE user_deletions SET confirmation_address = NULL WHERE state <> 'complete'")


def downgrade() -> None:
    op.execute(f"GRANT EXECUTE ON FUNCTION {FUNCTIONS} TO PUBLIC")
    op.execute(CAPTURE.format(is_for_users="", insert=OF_THE_REQUEST, address="excluded.confirmation_address"))
