-- What workers need of PostgreSQL to archive history (S3_BUCKET_ARCHIVE), beside deploy/postgres/retention_worker.sql:
--
--   psql --set ON_ERROR_STOP=1 --single-transaction --dbname DATABASE --file deploy/postgres/archive_worker.sql
--
-- Run it as that file is run, and again after every migration. `archive_worker` is a group, too: make the workers'
-- login a member of it. Where history is not archived, nobody is: without it no row of history can be deleted.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'archive_worker') THEN
        CREATE ROLE archive_worker NOLOGIN;
    END IF;
END
$$;

-- Rows whose file was read back and compared. To read, lock and restore them, retention_worker has what it takes.
GRANT DELETE ON notification_history TO archive_worker;

GRANT SELECT, INSERT, UPDATE ON retention.archives TO archive_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON retention.archive_pages TO archive_worker;
