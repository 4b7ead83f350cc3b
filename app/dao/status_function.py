"""What a platform's API calls with a status that arrived: `record_status`, in the pipeline's schema, for its tables.

The API may be written in any language, and never imports this package. In PL/pgSQL each statement sees what was
committed when it began: if the first one waited for a batch that moved the row, the second one finds it in history.
The function runs with its caller's privileges, so that it gives nobody anything.
"""

from app.dao.adoption_sql import quoted
from app.dao.platform import Platform

WRITERS = "status_writer"
"""The role whose members may call it."""

STATEMENTS = (
    """\
CREATE OR REPLACE FUNCTION {schema}.record_status(id uuid, status text)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    UPDATE {notifications} SET notification_status = $2::{status},
        updated_at = clock_timestamp() AT TIME ZONE 'UTC' WHERE id = $1;
    IF FOUND THEN
        RETURN 'notifications';
    END IF;
    UPDATE {history} SET notification_status = $2::{history_status},
        updated_at = clock_timestamp() AT TIME ZONE 'UTC' WHERE id = $1;
    RETURN CASE WHEN FOUND THEN 'notification_history' END;
END
$$;""",
    "REVOKE ALL ON FUNCTION {schema}.record_status(uuid, text) FROM PUBLIC;",
    "GRANT USAGE ON SCHEMA {schema} TO {writers};",
    "GRANT EXECUTE ON FUNCTION {schema}.record_status(uuid, text) TO {writers};",
    "GRANT SELECT (id), UPDATE (notification_status, updated_at) ON {notifications} TO {writers};",
    "GRANT SELECT (id), UPDATE (notification_status, updated_at) ON {history} TO {writers};",
)


def statements(platform: Platform, schema: str) -> list[str]:
    """What makes the function, with the pipeline's own tables in `schema`, and gives its callers what they need. The
    owner of the tables runs it; the role must be there.
    """
    return [platform.printed(one, schema=quoted(schema), writers=quoted(WRITERS)) for one in STATEMENTS]
