"""Emails go out in turn over all processes, once each, and an error says whether there is any use in trying again.

Seen to fail: the turn not taken; a slot used however late; the waiting done inside of the transaction; slots counted on
from a moment that is past; any wait allowed; the client's own second attempt left on; any 400 held against the address;
what SES said chained to the error.
"""

import sys
import traceback
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, text

from app.accounts import email_rate, mail
from app.accounts.mail import MailRefused, MailUnavailable, Message
from app.accounts.tools import tools
from dev.product import ROOT
from tests.fakes.recording_ses import RecordingSes, Refusal, recording_ses
from tests.forkserver import worker_process
from tests.session_rows import held

ADDRESS = "someone.private@example.test"
MESSAGE = Message("Über uns", "Grüße, <b>", "<p>Grüße, &lt;b&gt;</p>")
LIMIT = 40
PROCESSES, EMAILS_EACH = 3, 30
BURST = 10
"""What a machine with more processes than cores may deliver together; without the row it would be all of them."""

SENDER = f"""
import sys
from app import create_app
from app.accounts import mail
with create_app().app_context():
    for number in range({EMAILS_EACH}):
        mail.send(f"{{number}}.{{sys.argv[1]}}@example.test", mail.Message("Subject", "Text", "<p>Text</p>"))
"""


@pytest.fixture
def ses() -> Iterator[RecordingSes]:
    with recording_ses() as running:
        yield running


@pytest.fixture
def settings_override(ses: RecordingSes) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_SESV2": ses.url,
        "EMAILS_PER_SECOND": str(LIMIT),
        "EMAIL_SENDER": "Über uns <us@example.test>",
    }


def next_slot_in(connection: Connection) -> float:
    found = text("SELECT extract(epoch FROM next_slot_at - clock_timestamp())::double precision FROM email_rate")
    return float(connection.execute(found).scalar_one())


def most_in_a_second(moments: list[float]) -> int:
    moments = sorted(moments)
    return max(bisect_left(moments, moment + 1) - at for at, moment in enumerate(moments))


def test_all_processes_together_send_no_more_in_a_second_than_the_setting_says(
    app, ses, environment, settings_override, tmp_path
):
    given = {**environment, **settings_override}
    senders = [
        worker_process(f"sender {name}", [sys.executable, "-c", SENDER, name], log=log, env=given, cwd=ROOT)
        for name, log in enumerate(tmp_path / f"{number}.log" for number in range(PROCESSES))
    ]
    assert [sender.wait(120) for sender in senders] == [0] * PROCESSES
    expected = {f"{number}.{name}@example.test" for number in range(EMAILS_EACH) for name in range(PROCESSES)}
    assert (len(ses.emails), {email.to for email in ses.emails}) == (PROCESSES * EMAILS_EACH, expected)
    assert most_in_a_second([email.at for email in ses.emails]) <= LIMIT + BURST


@pytest.mark.parametrize("limit", [0.5, 1, 14, 200])
def test_slots_are_so_far_apart_that_a_second_holds_no_more_than_the_limit_however_late_each_is_used(limit):
    apart = email_rate.seconds_apart(limit)
    window = max(1, 1 / limit)
    late, punctual = email_rate.TOLERANCE_SECONDS, 0.0
    starts = [0 + late] + [number * apart + punctual for number in range(1, 1000)]
    assert most_in_a_second([start / window for start in starts]) <= max(limit, 1)


def test_an_email_is_sent_in_text_and_html_from_the_sender_of_the_settings(app, ses):
    mail.send(ADDRESS, MESSAGE)
    (email,) = ses.emails
    assert (email.to, email.sender) == (ADDRESS, "=?utf-8?b?w5xiZXIgdW5z?= <us@example.test>")
    assert (email.subject, email.text, email.html) == (MESSAGE.subject, MESSAGE.text, MESSAGE.html)


def test_a_slot_that_was_slept_through_is_void_and_another_is_taken(app, ses, connection, monkeypatch):
    naps = iter([email_rate.TOLERANCE_SECONDS * 2])
    sleep = email_rate.time.sleep
    monkeypatch.setattr(email_rate.time, "sleep", lambda seconds: sleep(seconds + next(naps, 0)))
    reserved: list[Any] = []
    reserve = email_rate.reserve
    monkeypatch.setattr(email_rate, "reserve", lambda *given: reserved.append(reserve(*given)) or reserved[-1])
    mail.send(ADDRESS, MESSAGE)
    assert len(ses.emails) == 1
    assert reserved[0].ends < ses.emails[0].at
    assert len(reserved) > 1


def test_nobody_waits_for_a_slot_that_is_too_far_away_nor_takes_it(app, ses, connection):
    connection.execute(text("INSERT INTO email_rate VALUES (1, clock_timestamp() + interval '16 seconds')"))
    before = next_slot_in(connection)
    with pytest.raises(MailUnavailable, match=mail.NO_SLOT):
        mail.send(ADDRESS, MESSAGE)
    assert next_slot_in(connection) < before
    assert ses.asked == []


def test_a_rate_that_rested_gives_no_credit(app, ses, connection):
    connection.execute(text("INSERT INTO email_rate VALUES (1, clock_timestamp() - interval '1 hour')"))
    mail.send(ADDRESS, MESSAGE)
    assert next_slot_in(connection) > -60


def test_the_waiting_is_done_outside_of_any_transaction(app, ses, connection, monkeypatch):
    open_transactions = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name = 'retention' AND state LIKE 'idle in transaction%'"
    )
    seen: list[int] = []
    monkeypatch.setattr(
        email_rate.time, "sleep", lambda _seconds: seen.append(connection.execute(open_transactions).scalar_one())
    )
    mail.send(ADDRESS, MESSAGE)
    assert set(seen) == {0}


ODD = "someone..private@example.test"


@pytest.mark.parametrize(
    ("to", "refusal", "kind"),
    [
        (ADDRESS, Refusal(400, "MessageRejected", "Address blacklisted."), MailRefused),
        (ODD, Refusal(400, "BadRequestException", "Local address contains dot-dot"), MailRefused),
        (ODD, Refusal(400, "InvalidParameterValue", "Illegal address"), MailRefused),
        (ODD, Refusal(400, "BadRequestException", "Duplicate header 'From'."), MailUnavailable),
        (ADDRESS, Refusal(400, "BadRequestException", "Missing final '@domain'"), MailUnavailable),
        (ADDRESS, Refusal(400, "MessageRejected", "Sending paused for this account."), MailUnavailable),
        (ADDRESS, Refusal(400, "MessageRejected", "Email address is not verified"), MailUnavailable),
        (ADDRESS, Refusal(400, "AccountSendingPausedException"), MailUnavailable),
        (ADDRESS, Refusal(400, "NobodyHasHeardOfItException"), MailUnavailable),
        (ADDRESS, Refusal(429, "TooManyRequestsException"), MailUnavailable),
        (ADDRESS, Refusal(403, "AccessDeniedException"), MailUnavailable),
        (ADDRESS, Refusal(503, "NobodyHasHeardOfItException"), MailUnavailable),
    ],
    ids=lambda value: getattr(value, "message", None),
)
def test_an_answer_is_about_the_address_only_if_that_is_known_and_is_asked_for_once(app, ses, to, refusal, kind):
    ses.refuse_all = refusal
    with pytest.raises(kind) as caught:
        mail.send(to, MESSAGE)
    assert caught.value.code == refusal.code
    assert ses.asked == [to]


@pytest.mark.parametrize("address", ["", "nobody", "nobody@", "@example.test", "no one@example.test", "a@b.test\n"])
def test_an_address_that_can_be_none_is_refused_without_asking(app, ses, address):
    with pytest.raises(MailRefused, match=mail.MALFORMED_ADDRESS):
        mail.send(address, MESSAGE)
    assert ses.asked == []


@pytest.mark.parametrize("lock", ["SELECT FROM email_rate FOR UPDATE", "LOCK TABLE email_rate"])
def test_a_row_that_somebody_holds_means_that_there_is_no_slot_now(app, ses, connection, monkeypatch, lock):
    mail.send(ADDRESS, MESSAGE)
    monkeypatch.setattr(email_rate, "STATEMENT_SECONDS", 0.2)
    with held(connection, lock), pytest.raises(MailUnavailable, match=mail.NO_SLOT):
        mail.send(ADDRESS, MESSAGE)
    mail.send(ADDRESS, MESSAGE)
    assert len(ses.emails) == 2


def test_what_ses_says_about_an_address_is_in_no_traceback(app, ses):
    ses.refuse_all = Refusal(400, "MessageRejected", f"Address blacklisted: {ADDRESS}")
    with pytest.raises(MailRefused) as caught:
        mail.send(ADDRESS, MESSAGE)
    assert ADDRESS not in "".join(traceback.format_exception(caught.value))


def test_a_server_that_is_away_makes_email_unavailable(app: Flask):
    the_tools = tools()
    the_tools.ses.close()
    app.extensions["accounts.tools"] = type(the_tools)(
        the_tools.settings.model_copy(update={"aws_endpoint_url_sesv2": "http://127.0.0.1:9"})
    )
    with pytest.raises(MailUnavailable, match="EndpointConnectionError"):
        mail.send(ADDRESS, MESSAGE)
