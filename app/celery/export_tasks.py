"""Exports of users' data.

What is to be done is in `user_exports`: a message that is lost, late or delivered twice does no harm.
"""

from uuid import UUID

from app.accounts import export
from app.celery import celery
from app.celery.sending import send
from app.errors import BadArgument

THE_NEXT = "beat's next message finds it"


@celery.task(name="export-user-data")
def export_user_data(export_id: UUID | str) -> None:
    """Build an export and send its link."""
    export.run(_checked_id(export_id))


@celery.task(name="relay-user-exports")
def relay_user_exports() -> None:
    """Send a message for each export that was asked for, is due again, or has lost its message or its worker."""
    for export_id in export.take_due():
        if not send(export_user_data, THE_NEXT, args=[str(export_id)]):
            return  # each refusal may take seconds


@celery.task(name="remove-expired-exports")
def remove_expired_exports() -> None:
    """Remove exports whose time is up, a bounded number; send the next message while there are more."""
    if export.remove_expired():
        send(remove_expired_exports, THE_NEXT)


def _checked_id(export_id: UUID | str) -> UUID:
    try:
        return export_id if isinstance(export_id, UUID) else UUID(export_id)
    except (ValueError, AttributeError, TypeError):
        raise BadArgument("{} is not an export's id; it must be a UUID", export_id) from None
