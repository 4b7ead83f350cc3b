"""What a small service's night costs in statements and transactions: counts, which do not wobble.

Seen to fail: intents that messages never have, a chain that takes a step more, a test chain where nothing is for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event

from app.dao import platform_dao
from app.db import db
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
        platform_dao.known(connection)
    wakes = open_chains(service, notification_type)
    with counted(app.extensions["db.engine"]) as seen:
        tasks = len(do_all(wakes))
    return tasks, seen["statements"], seen["commits"]


@pytest.mark.parametrize(
    ("key_types", "tasks", "most_statements", "commits"),
    [
        pytest.param(["normal"], 1, 20, 2, id="real ones"),  # three tasks, 60 statements and 9 commits with empty steps
        pytest.param(["normal", "test"], 2, 38, 4, id="and tests"),  # 4, 77 and 12
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
    assert (done, committed) == (1, 3)  # the third is the intent's
    assert statements <= 35
    assert live(connection) == set()
