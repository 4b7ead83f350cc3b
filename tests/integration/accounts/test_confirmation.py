"""The confirmation of a deletion: sent once, to an address that is forgotten then, or when there is no use in trying.

Seen to fail: the address kept when it is over; attempts without end.
"""

import pytest
from sqlalchemy import text

from app.accounts import confirmation, deletion
from app.accounts.mail import MailRefused, MailUnavailable
from tests.integration.accounts.owned import create_user, delete, record

ADDRESS = "someone.private@example.test"


class Mailbox:
    """Takes emails, or raises what it was given first."""

    def __init__(self, *errors):
        self.errors, self.sent = list(errors), []

    def __call__(self, to, message):
        if self.errors:
            raise self.errors.pop(0)
        self.sent.append((to, message.subject))


@pytest.fixture
def deleted(connection):
    user = create_user(connection, email_address=ADDRESS)
    assert delete(user) == "complete"
    return user


def confirm(connection, user, send):
    connection.execute(text("UPDATE user_deletions SET due_at = now() - interval '1 s'"))
    confirmation.confirm(user, send)
    return record(connection, user)


def test_it_is_sent_once_and_the_address_is_forgotten(connection, deleted):
    assert deletion.take_due() == [deleted]
    mailbox = Mailbox()
    after = confirm(connection, deleted, mailbox)
    assert (after["confirmation_address"], after["confirmation_failure"]) == (None, None)
    assert after["confirmed_at"] is not None
    confirm(connection, deleted, mailbox)
    assert mailbox.sent == [(ADDRESS, "Your Notifications account has been deleted")]
    assert deletion.take_due() == []


def test_a_refused_address_is_given_up_at_once_and_the_record_says_so(connection, deleted):
    after = confirm(connection, deleted, Mailbox(MailRefused("MessageRejected")))
    assert (after["confirmation_address"], after["confirmation_failure"]) == (None, "MessageRejected")
    assert (after["confirmed_at"], after["confirmation_attempts"], after["state"]) == (None, 1, "complete")


@pytest.mark.parametrize("failures", [1, confirmation.ATTEMPTS - 1, confirmation.ATTEMPTS])
def test_it_is_tried_again_while_no_email_can_be_sent_but_not_for_ever(connection, deleted, failures):
    mailbox = Mailbox(*[MailUnavailable("Unreachable")] * failures)
    for attempt in range(1, failures + 1):
        after = confirm(connection, deleted, mailbox)
        assert (after["confirmation_failure"], after["confirmation_attempts"]) == ("Unreachable", attempt)
    assert after["due_at"] >= after["completed_at"]
    is_given_up = failures == confirmation.ATTEMPTS
    assert (after["confirmation_address"] is None) == is_given_up
    after = confirm(connection, deleted, mailbox)
    assert after["confirmation_address"] is None
    assert (after["confirmed_at"] is None, bool(mailbox.sent)) == (is_given_up, not is_given_up)


def test_attempts_from_which_nobody_came_back_are_counted(connection, deleted):
    connection.execute(text("UPDATE user_deletions SET confirmation_attempts = :n"), {"n": confirmation.ATTEMPTS})
    mailbox = Mailbox()
    after = confirm(connection, deleted, mailbox)
    assert (after["confirmation_address"], after["confirmation_failure"], mailbox.sent) == (None, "WorkerLost", [])


def test_nobody_sends_it_while_another_does(connection, deleted):
    other = Mailbox()

    def send(to, message):
        confirm(connection, deleted, other)

    assert confirm(connection, deleted, send)["confirmed_at"] is not None
    assert other.sent == []
