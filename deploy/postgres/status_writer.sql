-- What a platform's API needs in order to record the status of a notification, wherever the row is by then: a function,
-- and a role whose members may call it. For our own tables; flask retention adopt prints it for a platform's. Run it after
-- the migrations, as the owner of the tables:
--
--   psql --set ON_ERROR_STOP=1 --single-transaction --dbname DATABASE --file deploy/postgres/status_writer.sql
--
-- The API calls SELECT retention.record_status(id, status), which says where it wrote the status: in notifications, in
-- notification_history, or nowhere (NULL: no such notification). It commits for itself, in READ COMMITTED. Its login:
--
--   GRANT status_writer TO notifications_api;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'status_writer') THEN
        CREATE ROLE status_writer NOLOGIN;
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION retention.record_status(id uuid, status text)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    UPDATE public.notifications SET notification_status = $2::text,
        updated_at = clock_timestamp() AT TIME ZONE 'UTC' WHERE id = $1;
    IF FOUND THEN
        RETURN 'notifications';
    END IF;
    UPDATE public.notification_history SET notification_status = $2::text,
        updated_at = clock_timestamp() AT TIME ZONE 'UTC' WHERE id = $1;
    RETURN CASE WHEN FOUND THEN 'notification_history' END;
END
$$;

REVOKE ALL ON FUNCTION retention.record_status(uuid, text) FROM PUBLIC;
GRANT USAGE ON SCHEMA retention TO status_writer;
GRANT EXECUTE ON FUNCTION retention.record_status(uuid, text) TO status_writer;
GRANT SELECT (id), UPDATE (notification_status, updated_at) ON public.notifications TO status_writer;
GRANT SELECT (id), UPDATE (notification_status, updated_at) ON public.notification_history TO status_writer;
