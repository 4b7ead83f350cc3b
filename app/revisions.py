"""The migrations that there are, in two branches: of the platform's tables, and of the pipeline's own.

Our own database has both. One that was adopted has the pipeline's own and nothing else (docs/adr/0029): with `adopted`,
Alembic is not even shown the other branch, and keeps its table of revisions in the pipeline's schema, since the
platform may well have an `alembic_version` of its own.

Workers and web processes ask for numbers alone, which are in the files' names: Alembic is 7 MB in each process.
"""

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from app import own_schema

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parents[1] / "migrations"
PLATFORM, RETENTION = MIGRATIONS / "platform", MIGRATIONS / "retention"
OWN_SCHEMA_OPTION = "retention_schema"


def alembic_config(
    url: str, options: object = None, *, adopted: bool = False, schema: str = own_schema.USUAL
) -> "Config":
    """Alembic's configuration for the product's migrations on the database at `url`, for SQLAlchemy, with the
    pipeline's own tables in `schema`.
    """
    from alembic.config import Config

    config = Config(cmd_opts=options, stdout=sys.stdout)  # type: ignore[arg-type]
    said = {
        "script_location": str(MIGRATIONS),
        "path_separator": "newline",  # a directory's name may have anything else in it
        "version_locations": "\n".join(map(str, _branches(adopted))),
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
    return frozenset(max(_numbers(branch)) for branch in _branches(adopted))


@cache
def known(*, adopted: bool = False) -> frozenset[str]:
    """All revisions that such a database can be at."""
    return frozenset(number for branch in _branches(adopted) for number in _numbers(branch))


def _branches(adopted: bool) -> list[Path]:
    return [RETENTION] if adopted else [PLATFORM, RETENTION]


def _numbers(branch: Path) -> list[str]:
    """A revision's file is called by its number, of four digits, and what it does."""
    return [path.name.partition("_")[0] for path in branch.glob("[0-9]*_*.py")]
