"""The reference of the archive: the method that the largest public platform published in 2025, written anew.

An hour at a time: its rows are read one by one through a cursor and written as ORC, the file is put, the count of the
hour is compared, and one DELETE takes the hour, all in one transaction. ORC is pyorc's (`pip install pyorc`). Without
that there is no reference.
"""

import importlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from io import BytesIO
from time import perf_counter
from typing import Any

COUNT = "SELECT count(*) FROM notification_history WHERE created_at >= %s AND created_at < %s"
READ = "SELECT {columns} FROM notification_history WHERE created_at >= %s AND created_at < %s"
DELETE = "DELETE FROM notification_history WHERE created_at >= %s AND created_at < %s"
COLUMNS = """
SELECT attname, format_type(atttypid, NULL)
FROM pg_attribute WHERE attrelid = 'notification_history'::regclass AND attnum > 0 AND NOT attisdropped
ORDER BY attnum
"""
ORC_TYPES = {
    "timestamp without time zone": "timestamp",
    "integer": "int",
    "bigint": "bigint",
    "boolean": "boolean",
}
"""Anything else is its text."""
HOUR = timedelta(hours=1)


def pyorc() -> Any:
    """The package, or None: it is no requirement of anything but this."""
    try:
        return importlib.import_module("pyorc")
    except ImportError:
        return None


@dataclass
class Reference:
    """What it did: rows, seconds, the longest transaction's seconds, and its files' size in bytes."""

    rows: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    size: int = 0
    _columns: list[tuple[str, str]] = field(default_factory=list)

    def archive(self, connection: Any, s3: Any, bucket: str, hour: datetime) -> None:
        """One hour."""
        began = perf_counter()
        bounds = (hour, hour + HOUR)
        with connection.cursor() as cursor:
            cursor.execute(COLUMNS)
            self._columns = cursor.fetchall()
            cursor.execute(COUNT, bounds)
            (expected,) = cursor.fetchone()
        body, written = self._written(connection, bounds)
        s3.put_object(Bucket=bucket, Key=f"reference/{hour:%Y-%m-%dT%H}.orc", Body=body)
        assert written == expected
        with connection.cursor() as cursor:
            cursor.execute(DELETE, bounds)
            assert cursor.rowcount == written
        connection.commit()
        taken = perf_counter() - began
        self.rows, self.size, self.seconds = self.rows + written, self.size + len(body), self.seconds + taken
        self.longest = max(self.longest, taken)

    def _written(self, connection: Any, bounds: tuple[datetime, datetime]) -> tuple[bytes, int]:
        orc = pyorc()
        kinds = [(name, ORC_TYPES.get(kind, "string")) for name, kind in self._columns]
        columns = ", ".join(f'"{name}"' + ("::text" if kind == "string" else "") for name, kind in kinds)
        schema = "struct<" + ",".join(f"{name}:{kind}" for name, kind in kinds) + ">"
        file, written = BytesIO(), 0
        with connection.cursor("hour") as cursor, orc.Writer(file, schema) as writer:
            cursor.execute(READ.format(columns=columns), bounds)
            for row in cursor:
                writer.write(row)
                written += 1
        return file.getvalue(), written
