-- The least that the clean-ups of accounts and sessions, their API and their commands need of PostgreSQL 14 or newer,
-- beside what deploy/postgres/retention_worker.sql grants to the nightly pipeline. Run it in the same way:
--
--   psql --set ON_ERROR_STOP=1 --single-transaction --dbname DATABASE --file deploy/postgres/accounts_worker.sql
--
-- A login that does both kinds of work is a member of both groups:
--
--   GRANT accounts_worker TO retention_eu;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'accounts_worker') THEN
        CREATE ROLE accounts_worker NOLOGIN;
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO accounts_worker', current_database());
END
$$;

GRANT USAGE ON SCHEMA public TO accounts_worker;

-- Accounts, sessions and the records of what is done about them ---------------------------------------------------

GRANT SELECT, DELETE ON users TO accounts_worker;
-- By column: nobody is made an administrator, or given another name or address.
REVOKE UPDATE ON users FROM accounts_worker;
GRANT UPDATE (flags, updated_at, password_hash, last_visit_at, deletion_warning_sent_at, deletion_warning_address, deletion_warning_attempts, deletion_warning_failure, deletion_warning_due_at, invited_by_id) ON users TO accounts_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON user_sessions TO accounts_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON deferred_sessions TO accounts_worker;
GRANT SELECT, UPDATE, DELETE ON user_deletions TO accounts_worker;
GRANT SELECT, DELETE ON malformed_flags TO accounts_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON user_exports TO accounts_worker;
-- What reads flags; nobody else's to call but the roles' that write users.
GRANT EXECUTE ON FUNCTION user_flags(jsonb) TO accounts_worker;
GRANT EXECUTE ON FUNCTION user_in_deletion(jsonb) TO accounts_worker;
GRANT INSERT ON retained_emails TO accounts_worker;
GRANT SELECT, INSERT, UPDATE ON email_rate TO accounts_worker;
GRANT USAGE ON SCHEMA retention TO accounts_worker;
GRANT INSERT ON retention.session_batches TO accounts_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON retention.user_sweeps TO accounts_worker;
GRANT SELECT, INSERT, UPDATE ON retention.heartbeats TO accounts_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON retention.blocked_policies TO accounts_worker;
-- What is on hold, and rows to be locked while work is under way, which takes UPDATE of a column.
GRANT SELECT (scope) ON retention.holds TO accounts_worker;
GRANT SELECT, INSERT, UPDATE (lockable) ON retention.turns TO accounts_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON retention.login_attempts TO accounts_worker;

-- What users own: deleted, or given to the ghost user -------------------------------------------------------------

GRANT SELECT ON services TO accounts_worker;
GRANT SELECT, DELETE ON user_to_service TO accounts_worker;
GRANT SELECT, DELETE ON user_to_organisation TO accounts_worker;
GRANT SELECT, DELETE ON user_folder_permissions TO accounts_worker;
GRANT SELECT, DELETE ON permissions TO accounts_worker;
GRANT SELECT, UPDATE (created_by_id) ON templates TO accounts_worker;
GRANT SELECT, UPDATE (created_by_id) ON templates_history TO accounts_worker;
GRANT SELECT, UPDATE (created_by_id) ON jobs TO accounts_worker;
GRANT SELECT, UPDATE (created_by_id) ON api_keys TO accounts_worker;
GRANT SELECT, UPDATE (created_by_id) ON api_keys_history TO accounts_worker;
GRANT SELECT, DELETE ON invited_users TO accounts_worker;
GRANT SELECT, DELETE ON invited_organisation_users TO accounts_worker;
GRANT SELECT, DELETE ON verify_codes TO accounts_worker;
GRANT SELECT, DELETE ON webauthn_credential TO accounts_worker;
GRANT SELECT, DELETE ON login_events TO accounts_worker;
GRANT SELECT, UPDATE (created_by_id) ON events TO accounts_worker;
GRANT SELECT, UPDATE (created_by_id) ON service_contact_list TO accounts_worker;
GRANT SELECT, UPDATE (updated_by_id) ON service_callback_api TO accounts_worker;
GRANT SELECT, DELETE, UPDATE (assigned_to_id) ON support_tickets TO accounts_worker;
GRANT SELECT, UPDATE (created_by_id) ON feature_requests TO accounts_worker;
GRANT SELECT, DELETE, UPDATE (user_id) ON feature_votes TO accounts_worker;
GRANT SELECT, UPDATE (entries) ON leader_boards TO accounts_worker;
GRANT SELECT (id, created_by_id, service_id), UPDATE (created_by_id) ON notifications TO accounts_worker;
GRANT SELECT (id, created_by_id, service_id), UPDATE (created_by_id) ON notification_history TO accounts_worker;
