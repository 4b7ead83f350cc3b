"""The tasks that delete accounts: what a message does, and which message it sends.

Seen to fail: the successor not sent; the relay that sends nothing; attempts forgotten by the host's clock alone.
"""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from kombu.exceptions import OperationalError
from sqlalchemy import text

from app.accounts import deletion, login_limits, mail
from app.celery import account_tasks
from app.errors import BadArgument
from app.models import LoginAttempts, UserDeletion
from tests.integration.accounts.owned import add, create_user, exists, mark_by_sql, record

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def sent(monkeypatch):
    """Messages, instead of a broker."""
    messages = []
    monkeypatch.setattr(account_tasks.delete_user_account, "apply_async", lambda args: messages.append(tuple(args)))
    return messages


@pytest.fixture(autouse=True)
def mailbox(monkeypatch):
    emails = []
    monkeypatch.setattr(mail, "send", lambda to, _message: emails.append(to))
    return emails


def test_marked_accounts_are_deleted_and_confirmed_by_what_the_relay_sends(connection, sent, mailbox):
    users = [create_user(connection) for _ in range(3)]
    for user in users:
        mark_by_sql(connection, user)
    account_tasks.relay_user_deletions.apply(throw=True)
    assert sorted(sent) == sorted((str(user),) for user in users)
    for message in sent:  # which grows, since each sends its successor
        account_tasks.delete_user_account.apply(args=message, throw=True)
    assert not any(exists(connection, user) for user in users)
    assert len(sent) == 2 * len(users), "one to delete, one to confirm"
    assert sorted(mailbox) == sorted(f"{user}@example.test" for user in users)
    assert all(record(connection, user)["confirmation_address"] is None for user in users)


def test_a_message_for_what_is_done_or_was_never_asked_for_does_nothing(connection, sent):
    user = create_user(connection)
    account_tasks.delete_user_account.apply(args=(str(user),), throw=True)
    account_tasks.delete_user_account.apply(args=(str(uuid4()),), throw=True)
    assert (exists(connection, user), sent) == (True, [])


def test_a_plain_call_works_as_well(connection, sent):
    user = create_user(connection)
    mark_by_sql(connection, user)
    account_tasks.delete_user_account(user)
    assert (exists(connection, user), sent) == (False, [(str(user),)])


def test_a_broker_that_is_away_costs_time_and_nothing_else(connection, monkeypatch):
    user = create_user(connection)
    mark_by_sql(connection, user)

    def away(args):
        raise OperationalError

    monkeypatch.setattr(account_tasks.delete_user_account, "apply_async", away)
    account_tasks.relay_user_deletions.apply(throw=True)
    connection.execute(text("UPDATE user_deletions SET sent_at = sent_at - interval '1 h'"))
    messages = []
    monkeypatch.setattr(account_tasks.delete_user_account, "apply_async", lambda args: messages.append(tuple(args)))
    account_tasks.relay_user_deletions.apply(throw=True)
    assert messages == [(str(user),)]


@pytest.mark.parametrize(
    ("age", "columns", "is_kept"),
    [
        (365 * DAY - HOUR, {}, True),
        (365 * DAY + HOUR, {}, False),
        (900 * DAY, {"confirmation_address": "a@example.test"}, True),
        (900 * DAY, {"state": "running", "completed_at": None}, True),
        (900 * DAY, {"state": "blocked", "completed_at": None}, True),
        (900 * DAY, {"confirmation_failure": "MessageRejected"}, False),
    ],
)
def test_records_of_complete_deletions_are_kept_for_a_year(connection, age, columns, is_kept):
    user, at = uuid4(), datetime.now(UTC) - age
    values = {"state": "complete", "requested_at": at, "completed_at": at, "due_at": at, **columns}
    add(connection, UserDeletion, user_id=user, **values)
    account_tasks.purge_account_records()
    assert (record(connection, user) is not None) == is_kept


def test_records_are_purged_in_bounded_batches_that_follow_each_other(connection, monkeypatch):
    monkeypatch.setattr(deletion, "RECORDS_PER_PURGE", 2)
    at = datetime.now(UTC) - 400 * DAY
    for _ in range(5):
        add(connection, UserDeletion, user_id=uuid4(), state="complete", completed_at=at, requested_at=at, due_at=at)
    messages = []
    monkeypatch.setattr(account_tasks.purge_account_records, "apply_async", lambda: messages.append(1))
    left = []
    for _ in range(3):
        account_tasks.purge_account_records()
        left.append(connection.execute(text("SELECT count(*) FROM user_deletions")).scalar())
    assert (left, len(messages)) == ([3, 1, 0], 2)


@pytest.mark.parametrize("ahead", [timedelta(0), 31 * DAY])
def test_attempts_to_log_in_are_forgotten_when_they_count_no_more(connection, ahead):
    """By the database's clock: a host that is ahead forgets none early."""
    now = datetime.now(UTC)
    for key, ends_at in ((b"over", now - HOUR), (b"counts", now + HOUR)):
        add(connection, LoginAttempts, key=key, attempts=3, ends_at=ends_at)
    assert not login_limits.purge(now + ahead)
    assert [bytes(key) for key in connection.execute(text("SELECT key FROM retention.login_attempts")).scalars()] == [
        b"counts"
    ]


@pytest.mark.parametrize("given", ["me", 7, None, [], ""])
def test_what_is_no_id_is_refused(app, given):
    with pytest.raises(BadArgument):
        account_tasks.delete_user_account(given)
