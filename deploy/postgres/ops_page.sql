-- What the ops page needs of PostgreSQL 14 or newer, beside what retention_worker.sql and accounts_worker.sql grant: it
-- reads what they read, and its actions are theirs. Run it in the same way:
--
--   psql --set ON_ERROR_STOP=1 --single-transaction --dbname DATABASE --file deploy/postgres/ops_page.sql
--
-- The web process's login is a member of this group and of those two:
--
--   GRANT ops_page TO retention_eu;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ops_page') THEN
        CREATE ROLE ops_page NOLOGIN;
    END IF;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON retention.ops_sessions TO ops_page;
GRANT SELECT, INSERT, UPDATE, DELETE ON retention.login_attempts TO ops_page;
-- How the archive stands, where history is archived.
GRANT SELECT ON retention.archives TO ops_page;
