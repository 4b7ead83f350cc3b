"""Schemas as pg_dump writes them, to be compared byte for byte."""

import os
import re
import subprocess

from sqlalchemy import make_url

from dev.postgres import programs

SECONDS = 60
# PostgreSQL 15 has a number of its own at each column since 15.20; the pg_dump of that version leaves it out, too.
NUMBERS_OF_COLUMNS = re.compile(r"^ALTER TABLE ONLY \S+ ALTER COLUMN .+ SET \(pg_attver=\d+\);\n+", re.MULTILINE)


def schema_dump(url: str, *arguments: str) -> str:
    """All that pg_dump says of the database's schema, owners and privileges included; no rows.

    `arguments` as pg_dump takes them, such as `--exclude-schema=retention`.
    """
    made = make_url(url)
    argv = [programs() / "pg_dump", "--schema-only", "--restrict-key=dump", *arguments, made.database or ""]
    environment = {
        "PATH": os.defpath,
        "PGHOST": made.host or "",
        "PGPORT": str(made.port or 5432),
        "PGUSER": made.username or "",
        "PGPASSWORD": made.password or "",
    }
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert ended.returncode == 0, ended.stderr
    return NUMBERS_OF_COLUMNS.sub("", ended.stdout)
