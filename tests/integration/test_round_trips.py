"""What a small service's night costs in statements and transactions: counts, which do not wobble.

Seen to fail: intents that messages never have, a chain that takes a step more, a test chain where nothing is for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event, text

from app.db import db
from app.retention import nightly, operations
from app.state import asked
from tests.chain_steps import do_all, open_chains
from tests.factories import create_letter, create_notification, create_service, live


@contextmanager
def counted(engine: Engine) -> Iterator[dict[str, int]]:
    """Statements sent and transactions committed."""
    seen = {"statements": 0, "commits": 0}

    def statement(*_: object) -> None:
        seen["statements"] += 1

    def commit(_: object) -> None:
        seen["commits"] += 1

    event.listen(engine, "before_cursor_execute", statement)
    event.listen(engine, "commit", commit)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", statement)
        event.remove(engine, "commit", commit)


@pytest.fixture
def settings_override():
    return {"LETTER_FOLDER_INDEX": "false"}


def night(app, service, notification_type):
    """The tasks, statements and commits of a service's chains. What a process reads once, it has read."""
    with db.transaction() as connection:
        asked.blocking(connection, notification_type)
    wakes = open_chains(service, notification_type)
    with counted(app.extensions["db.engine"]) as seen:
        tasks = len(do_all(wakes))
    return tasks, seen["statements"], seen["commits"]


@pytest.mark.parametrize(
    ("key_types", "tasks", "most_statements", "commits"),
    [
        pytest.param(["normal"], 1, 23, 2, id="real ones"),  # three tasks, 60 statements and 9 commits with empty steps
        pytest.param(["normal", "test"], 2, 44, 4, id="and tests"),  # 4, 77 and 12
    ],
)
def test_the_few_emails_of_a_service_take_few_round_trips(app, connection, key_types, tasks, most_statements, commits):
    service = create_service(connection)
    for key_type in key_types:
        create_notification(connection, service, key_type=key_type)
    done, statements, committed = night(app, service, "email")
    assert (done, committed) == (tasks, commits)
    assert statements <= most_statements
    assert live(connection) == set()


def test_the_few_letters_of_a_service_take_few_round_trips(app, connection, s3):
    service = create_service(connection)
    create_letter(connection, s3, service)
    done, statements, committed = night(app, service, "letter")
    assert (done, committed) == (1, 4)  # the lease, the choice, the intent, and the move
    assert statements <= 50
    assert live(connection) == set()


@pytest.mark.parametrize("notification_type", ["email", "letter"])
@pytest.mark.parametrize("start", [lambda of: operations.run([of]), nightly.fan_out], ids=["by hand", "by night"])
def test_a_run_is_opened_in_as_many_statements_for_many_services_as_for_few(app, connection, start, notification_type):
    counts = []
    for services in (2, 10):
        for _ in range(services):
            create_notification(connection, create_service(connection), notification_type=notification_type)
        connection.execute(text("DELETE FROM retention.chains"))
        if not counts:
            start(notification_type)  # what a process reads once
            connection.execute(text("DELETE FROM retention.chains"))
        with counted(app.extensions["db.engine"]) as seen:
            start(notification_type)
        counts.append(seen["statements"])
    assert counts[0] == counts[1]
    opened = connection.execute(text("SELECT count(*), count(service_id) FROM retention.chains")).one()
    assert opened == ((12, 12) if notification_type == "letter" else (1, 0))
