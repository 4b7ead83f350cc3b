"""The migrations that there are, in two branches: of the platform's tables, and of the pipeline's own.

Our own database has both. One that was adopted has the pipeline's own and nothing else (docs/adr/0029): with `adopted`,
Alembic is not even shown the other branch, and keeps its table of revisions in the pipeline's schema, since the
platform may well have an `alembic_version` of its own.
"""

import sys
from functools import cache
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from app import own_schema

MIGRATIONS = Path(__file__).parents[1] / "migrations"
PLATFORM, RETENTION = MIGRATIONS / "platform", MIGRATIONS / "retention"
OWN_SCHEMA_OPTION = "retention_schema"


def alembic_config(
    url: str, options: object = None, *, adopted: bool = False, schema: str = own_schema.USUAL
) -> Config:
    """Alembic's configuration for the product's migrations on the database at `url`, for SQLAlchemy, with the
    pipeline's own tables in `schema`.
    """
    config = Config(cmd_opts=options, stdout=sys.stdout)  # type: ignore[arg-type]
    branches = [RETENTION] if adopted else [PLATFORM, RETENTION]
    said = {
        "script_location": str(MIGRATIONS),
        "path_separator": "newline",  # a directory's name may have anything else in it
        "version_locations": "\n".join(map(str, branches)),
        "sqlalchemy.url": url,
        OWN_SCHEMA_OPTION: schema,
    }
    if adopted:
        said["version_table_schema"] = schema
    for name, value in said.items():
        config.set_main_option(name, value.replace("%", "%%"))
    return config


@cache
def newest(*, adopted: bool = False) -> frozenset[str]:
    """The newest revision of each branch that such a database has."""
    return frozenset(_scripts(adopted).get_heads())


@cache
def known(*, adopted: bool = False) -> frozenset[str]:
    """All revisions that such a database can be at."""
    return frozenset(script.revision for script in _scripts(adopted).walk_revisions())


def _scripts(adopted: bool) -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config("", adopted=adopted))
