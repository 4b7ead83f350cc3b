"""The reference's night as tasks of the same workers: a task per type, one per service, which sends itself again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from app import clock
from app.celery import celery
from app.db import db
from benchmarks import reference_letters
from benchmarks.methods import Task
from benchmarks.reference import DISCOVERY, Reference

MESSAGES = ("email", "sms")


@contextmanager
def _connection() -> Iterator[Any]:
    pooled = db.engine.raw_connection()
    try:
        yield pooled.driver_connection
    finally:
        pooled.close()


@cache
def _s3() -> Any:
    """One per process."""
    return reference_letters.resource(os.environ["AWS_ENDPOINT_URL_S3"])


@celery.task(name="reference-night")
def night(cutoff: str) -> None:
    """Find the services, and send each its task."""
    for notification_type in MESSAGES:
        with _connection() as connection, connection.cursor() as cursor:
            before = clock.to_column(datetime.fromisoformat(cutoff))
            cursor.execute(DISCOVERY, {"notification_type": notification_type, "cutoff": before})
            services = [row[0] for row in cursor.fetchall()]
        for service in services:
            messages.apply_async(args=[str(service), notification_type, cutoff])


@celery.task(name="reference-messages")
def messages(service_id: str, notification_type: str, cutoff: str) -> None:
    """Move a batch; the same again until nothing is left."""
    task = Task(UUID(service_id), notification_type, datetime.fromisoformat(cutoff))
    with _connection() as connection:
        moved = next(Reference(connection).batches(task), 0)
        connection.rollback()
    if moved:
        messages.apply_async(args=[service_id, notification_type, cutoff])


@celery.task(name="reference-letters")
def letters(service_id: str, cutoff: str, limit: int) -> None:
    """Delete the files of so many letters, one by one, then move them."""
    task = Task(UUID(service_id), "letter", datetime.fromisoformat(cutoff))
    loaded = reference_letters.load(task.service_id, task.cutoff, limit)
    reference_letters.delete_files(_s3(), reference_letters.places(loaded))
    db.session.rollback()
    with _connection() as connection:
        next(Reference(connection, limit).batches(task), 0)


@celery.task(name="reference-letters-of")
def letters_of(services: list[str], cutoff: str, limit: int) -> None:
    """Send each service's task."""
    for service in services:
        letters.apply_async(args=[service, cutoff, limit])
