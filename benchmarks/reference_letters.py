"""The reference method for letters, written anew from its description.

The ORM loads 5,000; for each, a boto3 resource lists the prefix and deletes the first object; then all of them move.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import boto3

from app import clock
from app.db import db
from app.models.notifications import Notification
from app.retention.tools import tools
from app.storage.naming import Letter, Place

LETTERS_PER_BATCH = 5_000


def load(service_id: UUID, cutoff: datetime, limit: int = LETTERS_PER_BATCH) -> list[Notification]:
    """The next letters, whole."""
    query = db.session.query(Notification).filter(
        Notification.service_id == service_id,
        Notification.notification_type == "letter",
        Notification.created_at < clock.to_column(cutoff),
        Notification.key_type.in_(("normal", "team")),
    )
    return query.order_by(Notification.created_at).limit(limit).all()


def places(letters: Iterable[Notification]) -> list[Place]:
    """Where their files are."""
    naming = tools().naming
    rows = ((row.id, row.reference, row.created_at.replace(tzinfo=UTC), row) for row in letters)
    named = (Letter(id_, ref, at, row.notification_status, row.key_type, row.postage) for id_, ref, at, row in rows)
    return [naming.places(letter)[0] for letter in named]


def resource(endpoint_url: str) -> Any:
    """S3 as boto3's objects."""
    return boto3.resource("s3", endpoint_url=endpoint_url, region_name="eu-west-1")


def delete_files(s3: Any, of_letters: Iterable[Place]) -> None:
    """One by one: two requests each."""
    for place in of_letters:
        for first in s3.Bucket(place.bucket).objects.filter(Prefix=place.prefix):
            first.delete()
            break
