-- The least that the pipeline's workers, its beat and `flask retention …` need of PostgreSQL 14 or newer.
--
--   psql --set ON_ERROR_STOP=1 --single-transaction --dbname DATABASE --file deploy/postgres/retention_worker.sql
--
-- Run it as a superuser, or as a role that may create roles and owns the database and the tables; after every
-- migration that adds a table, again: nothing here is done twice. The test suite sets up its own role from this very
-- file and runs as a member of it; tests/security/test_database_role.py shows that every line is needed.
--
-- `retention_worker` is a group: it can't log in. Make a login for each deployment, its password set apart:
--
--   CREATE ROLE retention_eu LOGIN IN ROLE retention_worker;
--   \password retention_eu
--
-- Migrations (`flask db upgrade`) are not among its work: they run as the owner of the tables.
-- Nor is anything that the rest of the platform does: this role can't insert a notification, change one's recipient
-- or content, or empty a table of the platform's.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'retention_worker') THEN
        CREATE ROLE retention_worker NOLOGIN;
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO retention_worker', current_database());
    -- A step's batch is a temporary table.
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO retention_worker', current_database());
END
$$;

-- The platform's tables ------------------------------------------------------------------------------------------

GRANT USAGE ON SCHEMA public TO retention_worker;

GRANT SELECT ON services TO retention_worker;
GRANT SELECT ON service_data_retention TO retention_worker;

-- By column: not who got a notification ("to", normalised_to), nor what it said (_personalisation), nor what else does
-- not move. A column that is added to both tables is to be added here before the next night.
REVOKE SELECT ON notifications FROM retention_worker;
GRANT SELECT (tableoid, ctid, xmin, service_id, key_type, notification_status, id, job_id, job_row_number, template_id, template_version, api_key_id, notification_type, created_at, sent_at, sent_by, updated_at, reference, billable_units, client_reference, international, phone_prefix, rate_multiplier, created_by_id, postage, document_download_count) ON notifications TO retention_worker;
GRANT DELETE ON notifications TO retention_worker;
-- To lock rows (FOR UPDATE needs UPDATE of a column), and to write a status that arrived.
GRANT UPDATE (notification_status, updated_at) ON notifications TO retention_worker;

GRANT SELECT ON notification_history TO retention_worker;
GRANT INSERT ON notification_history TO retention_worker;
-- Where history has the row already, the newer one wins.
GRANT UPDATE ON notification_history TO retention_worker;

-- The pipeline's own records -------------------------------------------------------------------------------------

GRANT USAGE ON SCHEMA retention TO retention_worker;
-- To see whether a sequence is behind its table, as a switch to a logical replica leaves it.
GRANT SELECT ON ALL SEQUENCES IN SCHEMA retention TO retention_worker;

GRANT SELECT, INSERT, DELETE ON retention.runs TO retention_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON retention.run_types TO retention_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON retention.chains TO retention_worker;
GRANT SELECT, INSERT, DELETE ON retention.steps TO retention_worker;
-- To fold what steps did into the totals that metrics are told from.
GRANT UPDATE (counted) ON retention.steps TO retention_worker;
GRANT SELECT, INSERT, DELETE ON retention.batch_failures TO retention_worker;
GRANT SELECT, DELETE ON retention.session_batches TO retention_worker;
GRANT SELECT, INSERT, UPDATE ON retention.totals TO retention_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON retention.heartbeats TO retention_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON retention.blocked_policies TO retention_worker;
GRANT SELECT, INSERT, DELETE ON retention.letter_looks TO retention_worker;
GRANT SELECT, INSERT, DELETE ON retention.accepted_missing TO retention_worker;
GRANT SELECT, INSERT, DELETE ON retention.intents TO retention_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON retention.deferred_rows TO retention_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON retention.deferred_buckets TO retention_worker;
GRANT SELECT, INSERT, DELETE ON retention.holds TO retention_worker;
-- To lock rows of it, which takes UPDATE of a column.
GRANT SELECT, UPDATE (lockable) ON retention.turns TO retention_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON retention.folder_counts TO retention_worker;
-- A hold goes only in a transaction that records who lifted it, and that record stays for 30 days: whose own acts these
-- are can't take them away (migration 0025).
GRANT SELECT, INSERT, DELETE ON retention.ops_actions TO retention_worker;
-- The night's index of letter folders is emptied, both tables at once, when the night is over.
GRANT SELECT, INSERT, UPDATE, TRUNCATE ON retention.indexed_folders TO retention_worker;
GRANT SELECT, INSERT, DELETE, TRUNCATE ON retention.indexed_files TO retention_worker;
-- Audits of the letter buckets. The list of letters that were seen is emptied when an audit begins and ends.
GRANT SELECT, INSERT, UPDATE, DELETE ON retention.audits TO retention_worker;
GRANT SELECT, INSERT ON retention.audit_findings TO retention_worker;
GRANT SELECT, INSERT, UPDATE ON retention.audit_deletions TO retention_worker;
GRANT SELECT, INSERT, TRUNCATE ON retention.audited_letters TO retention_worker;
-- Policies that are data. What their tables need: flask retention policies --check.
GRANT SELECT, INSERT, UPDATE, DELETE ON retention.policy_sweeps TO retention_worker;
GRANT SELECT, INSERT, DELETE ON retention.policy_steps TO retention_worker;
-- To lock its rows before they go.
GRANT UPDATE (id) ON retention.policy_steps TO retention_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON retention.policy_deferred TO retention_worker;

-- To say whether the migrations are at their newest.
GRANT SELECT ON alembic_version TO retention_worker;

-- Optional -------------------------------------------------------------------------------------------------------
-- To see that live queries wait for locks and that replicas lag. Without it other roles' rows of pg_stat_activity
-- and pg_stat_replication look quiet, and the pipeline never yields to them. It also shows other roles' running
-- queries, so that it is not granted here. Who has ADMIN OPTION on it (a superuser; a managed database's administrator):
--
--   GRANT pg_read_all_stats TO retention_worker;
