"""The schema of the pipeline's own tables.

Statements call it `retention`, and are constants to be read. Where a platform has a schema of that name already, ours
has another (RETENTION_SCHEMA), and the engine writes that one in its place: see docs/adr/0029.
"""

import re
from typing import Any

from sqlalchemy import Connection, Engine, event

USUAL = "retention"
OPTION = "own_schema"
"""The execution option by which a connection knows what the schema is called."""

# Not `days_of_retention.`, and not a name that is quoted or has one before it.
_IN_STATEMENT = re.compile(rf'(?<![\w".]){USUAL}(?=\.)')


def use(engine: Engine, schema: str) -> Engine:
    """The engine, from now on for the tables in this schema."""
    engine.update_execution_options(**{OPTION: schema})
    if schema != USUAL:
        event.listen(engine, "before_cursor_execute", _renamed, retval=True)
    return engine


def name(connection: Connection) -> str:
    """What the schema is called in the connection's database."""
    called: str = connection.get_execution_options().get(OPTION, USUAL)
    return called


def as_called(connection: Connection, words: str) -> str:
    """A table's name, or anything else that says `retention.`, as the connection's database has it."""
    schema = name(connection)
    return words if schema == USUAL else _IN_STATEMENT.sub(f'"{schema}"', words)


def theirs(words: str) -> str:
    """Names of a platform that has a schema `retention` itself, so that no statement takes them for ours."""
    return _IN_STATEMENT.sub(f'"{USUAL}"', words)


def _renamed(
    connection: Connection, _cursor: object, statement: str, parameters: Any, _context: object, _many: bool
) -> tuple[str, Any]:
    return as_called(connection, statement), parameters
