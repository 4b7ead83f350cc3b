"""What the ops page shows, and that what can't be looked at takes nothing else with it.

Seen to fail: an error of one section let through (the page answered 503); the statement's time-out left out; the cache
left out, or not emptied by an action; a service's name put on the page; the verdict without its reason; one advice for
all reasons; a comma after a retention that is refused.
"""

from datetime import timedelta
from html import unescape

import pytest
from flask import Flask
from sqlalchemy import event, text

from app import clock
from app.dao import blocked_dao
from app.ops import sections
from app.ops.kept import Kept
from app.retention import operations
from tests.factories import EMAIL_ADDRESS, create_letter, create_notification, create_service, days_ago, tonight
from tests.ops import Browser, ops_settings, seem_alive

SECTIONS = {
    "history": "retention.steps",
    "run": "retention.runs",
    "workers": "retention.heartbeats",
    "audit": "retention.audits",
    "held_back": "retention.deferred_buckets",
    "deletions": "user_deletions",
    "sessions": "user_sessions",
    "stops": "retention.holds",
    "blocked": "retention.blocked_policies",
    "failing": "retention.batch_failures",
    "actions": "retention.ops_actions",
}


@pytest.fixture
def settings_override() -> dict[str, str]:
    return ops_settings()


@pytest.fixture
def browser(app: Flask) -> Browser:
    browser = Browser(app)
    browser.log_in()
    return browser


def look(app: Flask) -> sections.Page:
    return sections.look(app.extensions["settings"], Kept(), clock.now())


def failed(page: sections.Page) -> set[str]:
    return {name for name, part in vars(page).items() if isinstance(part, sections.Section) and part.failed}


@pytest.mark.parametrize(("name", "table"), SECTIONS.items(), ids=SECTIONS)
def test_a_section_whose_table_is_missing_fails_alone(app, browser, connection, name, table):
    connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO elsewhere")
    schema = table.rpartition(".")[0] or "public"
    try:
        page = look(app)
        answer = browser.get("/ops")
    finally:
        connection.exec_driver_sql(f"ALTER TABLE {schema}.elsewhere RENAME TO {table.rpartition('.')[2]}")
    assert name in failed(page)
    assert failed(page) <= {name, "measured", "backlog", "waiting"}
    assert answer.status_code == 200
    assert "A table is missing. Make the tables with: flask db upgrade." in answer.text


def test_a_section_that_takes_too_long_is_broken_off_alone(app, browser, connection, monkeypatch):
    monkeypatch.setattr(sections, "SECONDS_A_SECTION", 0.2)
    engine = app.extensions["db.engine"]

    def slow(_connection, cursor, statement, *_):
        if "user_sessions" in statement:
            cursor.execute("SELECT pg_sleep(5)")

    event.listen(engine, "before_cursor_execute", slow)
    try:
        page = look(app)
        answer = browser.get("/ops")
    finally:
        event.remove(engine, "before_cursor_execute", slow)
    assert failed(page) == {"sessions"}
    assert "The database took too long to answer" in page.sessions.failed
    assert answer.status_code == 200


def test_a_broker_that_is_away_is_said(app, connection, monkeypatch):
    settings = app.extensions["settings"].model_copy(update={"celery_broker_url": "redis://127.0.0.1:9/0"})
    page = sections.look(settings, Kept(), clock.now())
    assert failed(page) == {"queues"}
    assert page.queues.failed.startswith("The broker can't be asked")


def test_where_it_cannot_be_measured_the_page_says_so_and_is_not_green(app, browser, connection):
    connection.exec_driver_sql("ALTER TABLE service_data_retention RENAME TO elsewhere")
    try:
        answer = browser.get("/ops").text
    finally:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO service_data_retention")
    assert 'class="verdict red"' in answer
    assert "It can't be told how what is overdue is: A table is missing." in unescape(answer)


FIX_S3, BY_HAND = "Fix the bucket or its permissions", "Delete its own file by hand"


@pytest.mark.parametrize(
    ("reason", "says", "not_this"), [("AccessDenied", FIX_S3, BY_HAND), ("AmbiguousReference", BY_HAND, FIX_S3)]
)
def test_the_sentence_is_red_with_its_reason_and_what_to_do(browser, connection, s3, reason, says, not_this):
    service = create_service(connection)
    letter = create_letter(connection, s3, service)
    connection.execute(
        text(
            "INSERT INTO retention.deferred_rows VALUES (:letter, :service, 'real', now(), :reason, 9, "
            "now(), now(), now() + interval '1 day', true, 'letter')"
        ),
        {"letter": letter, "service": service, "reason": reason},
    )
    answer = browser.get("/ops").text
    verdict = answer.split('id="verdict"')[1].split("</section>")[0]
    assert "1 row of letter should be gone" in verdict
    assert f"{reason} (1)" in verdict
    assert (says in unescape(verdict), not_this in unescape(verdict)) == (True, False)
    assert "1 need a person" in answer
    assert str(letter) in answer


def test_a_retention_that_is_refused_is_named_with_its_service(browser, connection):
    service = create_service(connection, email=0)
    verdict = browser.get("/ops").text.split('id="verdict"')[1].split("</section>")[0]
    assert f"of <code>{service}</code>: retention refused.</li>" in verdict
    assert "Set it to 1 day or more" in verdict


def test_what_is_overdue_within_the_limit_is_green(browser, connection):
    seem_alive(connection)
    create_notification(connection, create_service(connection, email=7), created_at=days_ago(8))
    answer = browser.get("/ops").text
    assert 'class="verdict green"' in answer
    assert "That is within the limit of 1 day." in answer


def test_the_headline_is_never_green_while_nothing_is_alive_or_while_it_is_paused(browser, connection):
    verdicts = []
    for _ in range(3):
        if verdicts:
            seem_alive(connection)
        if len(verdicts) == 2:
            operations.pause("a migration", "olga", 0)
        answer = browser.get("/ops").text
        verdicts.append(unescape(answer.split('id="verdict"')[1].split("</section>")[0]))
        browser.client.application.extensions["ops.kept"].forget()
    nothing_alive, healthy, paused = verdicts
    assert "No worker is alive: nothing is deleted." in nothing_alive
    assert "Start workers" in nothing_alive
    assert "The dispatcher has never run" in nothing_alive
    assert "All is well" in healthy
    assert "Nothing is overdue." in healthy
    assert "The pipeline is paused by olga (a migration)" in paused
    assert "/ops/actions/resume" in paused
    assert "All is well" not in nothing_alive + paused


def test_no_personal_data_is_on_the_page(browser, connection, s3):
    service = create_service(connection, name="The clinic of Dr. Private")
    create_notification(connection, service, client_reference="CLIENT-REF")
    letter = create_letter(connection, s3, service, reference="PRIVATEREFERENCE")
    connection.execute(
        text(
            "INSERT INTO retention.deferred_rows VALUES (:letter, :service, 'real', now(), 'AccessDenied', 9, "
            "now(), now(), now() + interval '1 day', true, 'letter')"
        ),
        {"letter": letter, "service": service},
    )
    answer = browser.get("/ops").text
    for private in (EMAIL_ADDRESS, "private content", "PRIVATEREFERENCE", "CLIENT-REF", "Dr. Private"):
        assert private not in answer
    assert str(service) in answer


def test_many_open_pages_cost_as_much_as_one(app, browser, connection):
    counted = []
    event.listen(app.extensions["db.engine"], "before_cursor_execute", lambda *seen: counted.append(seen[2]))
    browser.get("/ops")
    first = len(counted)
    for _ in range(5):
        browser.get("/ops/live", **{"HX-Request": "true"})
    again = [one for one in counted[first:] if "notifications" in one or "retention.steps" in one]
    assert first > 20
    assert again == []


def test_an_action_is_seen_at_once(browser, connection):
    assert "Stopped by hand" not in browser.get("/ops").text
    browser.send("/ops/actions/pause", reason="an incident")
    assert "an incident" in browser.get("/ops").text


def test_the_nights_are_a_chart_and_a_table_without_a_style_in_the_page(browser, connection):
    service = create_service(connection)
    for ago, moved in ((0, 1200), (3, 300), (29, 7), (30, 99_999)):
        connection.execute(
            text(
                "INSERT INTO retention.steps (night, notification_type, service_id, cutoff, stage, slice, step, "
                "started_at, seconds, outcome, chosen, moved, deleted, files_deleted, without_file, deferred) "
                "VALUES (:night, 'letter', :service, now(), 'real', 0, 0, now(), 1, 'again', :moved, :moved, 0, "
                ":moved, 0, 0)"
            ),
            {"night": tonight() - timedelta(days=ago), "service": service, "moved": moved},
        )
    answer = browser.get("/ops").text
    assert answer.count('class="night"') == 2 * 3
    assert "1,507 in 30 nights, the most, 1,200" in answer
    assert "99,999" not in answer
    assert "style=" not in answer
    assert "<script>" not in answer


def test_the_page_says_what_was_done_by_whom(browser, connection):
    service = create_service(connection)
    operations.hold(service, "a court asks", "carol")
    done = browser.get("/ops").text.split('id="actions-title"')[1]
    assert all(word in done for word in ("carol", "Hold", str(service), "a court asks"))


def test_what_keeps_a_deletion_is_said_by_name_and_that_it_needs_a_person(browser, connection, settings):
    reason = "login_events.user_id: RaiseException P0001 (in_the_way), of 1 row"
    user = connection.execute(
        text(
            "INSERT INTO user_deletions (user_id, state, reason, attempts) "
            "VALUES (gen_random_uuid(), 'running', :reason, :attempts) RETURNING user_id"
        ),
        {"reason": reason, "attempts": settings.deferral_attempts},
    ).scalar_one()
    page = browser.get("/ops").text
    assert str(user) in page
    assert f"(running, needs a person): {reason}" in page


def test_what_is_blocked_is_shown_with_what_to_do(app, browser, connection):
    blocked_dao.note(connection, ["letter"], {"letter": ("column a is <b>", "make it c")}, clock.now())
    shown = browser.get("/ops").text
    assert "column a is &lt;b&gt;" in shown
    assert "make it c" in shown
