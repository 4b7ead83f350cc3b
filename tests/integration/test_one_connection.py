"""A process has at most one connection in use at any moment, so that a pooler may give as many as there are processes.

Seen to fail: the intent written in a transaction of its own while the step's is open; the index of folders read so.
"""

import threading
from collections import Counter

import pytest
from sqlalchemy import event

from app.retention import folder_index, move_notifications_to_notification_history, nightly, records
from app.retention.rehearsal import rehearse
from tests.factories import create_letter, create_notification, create_service, days_ago, history, live
from tests.integration.night import dispatch, drain, make_due


@pytest.fixture
def settings_override():
    return {"FAN_OUT_SPREAD_SECONDS": "0", "LETTERS_PER_STEP": "5", "MESSAGES_PER_STEP": "5"}


@pytest.fixture
def most_at_once(app):
    """By thread, the connections in use at once, at most."""
    in_use, most = Counter(), Counter()

    def taken(*_):
        in_use[threading.get_ident()] += 1
        most[threading.get_ident()] = max(most[threading.get_ident()], in_use[threading.get_ident()])

    def given_back(*_):
        in_use[threading.get_ident()] -= 1

    engine = app.extensions["db.engine"]
    event.listen(engine, "checkout", taken)
    event.listen(engine, "checkin", given_back)
    yield most
    event.remove(engine, "checkout", taken)
    event.remove(engine, "checkin", given_back)


def test_a_whole_night_uses_one_connection(app, connection, s3, most_at_once):
    """Letters in one folder, so that an index of it is built; deferred and test rows; what the dispatcher does."""
    letters = set()
    for _ in range(4):
        service = create_service(connection)
        letters |= {create_letter(connection, s3, service, days_ago(40, minutes=n)) for n in range(12)}
        create_letter(connection, s3, service, days_ago(40), key_type="test")
        letters.add(create_notification(connection, service))
        create_notification(connection, service, key_type="test")
    list(rehearse())
    move_notifications_to_notification_history("letter", service, days_ago(0), limit=2)
    night = nightly.start_run()
    for notification_type in ("email", "letter"):
        drain(nightly.fan_out(notification_type, night))
    make_due(connection)
    dispatch()
    folder_index.empty_if_done(days_ago(0))
    records.purge(days_ago(-400))
    assert (live(connection), history(connection)) == (set(), letters)
    assert set(most_at_once.values()) == {1}
