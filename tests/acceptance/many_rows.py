"""Very many notifications in one statement, and the files that their letters have."""

from collections.abc import Iterator
from datetime import UTC, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from app.retention.tools import tools
from app.storage.naming import Letter

FILL = """
INSERT INTO notifications (id, "to", service_id, key_type, notification_type, notification_status, template_id,
                           template_version, created_at, reference, postage, _personalisation)
SELECT gen_random_uuid(), 'someone@example.test', :service, 'normal', CAST(:type AS notification_type), 'delivered',
       gen_random_uuid(), 1,
       now() - interval '30 days' + n * CAST(:apart AS interval), CAST(:mark AS text) || lpad(n::text, 12, '0'),
       CASE CAST(:type AS text) WHEN 'letter' THEN 'second' END, repeat('private ', 20)
FROM generate_series(1, CAST(:rows AS integer)) AS n
"""


def fill(
    connection: Connection,
    service: UUID,
    notification_type: str,
    rows: int,
    apart: timedelta = timedelta(milliseconds=1),
) -> None:
    """So many rows, the first of them thirty days old."""
    values = {
        "service": service,
        "type": notification_type,
        "rows": rows,
        "apart": apart,
        "mark": notification_type.upper(),
    }
    connection.execute(text(FILL), values)


def files_of_letters(connection: Connection) -> Iterator[tuple[str, str]]:
    """Bucket and key of each letter's file."""
    rows = connection.execute(text("SELECT id, reference, created_at FROM notifications")).all()
    naming = tools().naming
    for id_, reference, created_at in rows:
        letter = Letter(id_, reference, created_at.replace(tzinfo=UTC), "delivered", "normal", "second")
        yield naming.buckets.letters, naming.key(letter)
