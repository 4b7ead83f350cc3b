"""Moving emails and text messages."""

from app.retention import move_notifications_to_notification_history
from tests.factories import create_notification, create_service, days_ago, history, live


def test_what_is_past_its_retention_moves_and_the_rest_stays(app, connection):
    service = create_service(connection, sms=3)
    old = create_notification(connection, service, "sms", days_ago(5))
    new = create_notification(connection, service, "sms", days_ago(1))
    assert move_notifications_to_notification_history("sms", service, days_ago(0)) == 1
    assert (live(connection), history(connection)) == ({new}, {old})
