"""`flask retention …` by hand: what it says, what it does, and that what it refuses changes nothing."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from getpass import getuser
from typing import Any
from uuid import UUID

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import event, text

from app.celery import celery, nightly_tasks
from app.dao import overview_dao
from app.retention import plan as retention_plan
from tests.factories import (
    chains,
    create_letter,
    create_notification,
    create_service,
    days_ago,
    history,
    live,
    steps,
    tonight,
)
from tests.ops import seem_alive

CANCEL_MYSELF = text("SELECT pg_cancel_backend(pg_backend_pid())")
FUTURE = "2199-01-01T00:00:00Z"
Command = Callable[..., Result]


@pytest.fixture
def flask(app: Flask) -> Command:
    """Runs a `flask retention` command."""
    runner = app.test_cli_runner()
    return lambda *arguments, **more: runner.invoke(args=["retention", *map(str, arguments)], **more)


@pytest.fixture(autouse=True)
def no_message_stays(app: Flask) -> Iterator[None]:
    """What `run` sends is taken from the queue again: no worker is running here."""
    yield
    celery.control.purge()


@pytest.fixture
def messages(app: Flask) -> Callable[[], list[Any]]:
    """Takes the messages out of the nightly queue: task and arguments."""

    def take() -> list[Any]:
        taken = []
        with celery.connection_for_read() as connection:
            queue = connection.SimpleQueue(celery.amqp.queues[celery.conf.task_default_queue])
            with suppress(queue.Empty):
                while True:
                    message = queue.get_nowait()
                    message.ack()
                    taken.append((message.headers["task"], *message.payload[:2]))
            queue.close()
        return taken

    return take


def sentence_of(result: Result) -> str:
    """What a refused command says: one sentence, an exit code, and no traceback."""
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit)
    return result.stderr.strip().splitlines()[-1]


def a_bit_of_everything(connection, s3) -> dict[str, Any]:
    """A service with something of each kind overdue, beside rows that stay."""
    service = create_service(connection, letter=3)
    for _ in range(3):
        create_notification(connection, service, "email")
    create_notification(connection, service, "email", key_type="test")
    create_notification(connection, service, "email", days_ago(1))
    create_letter(connection, s3, service)
    create_letter(connection, s3, service, key_type="test")
    create_letter(connection, s3, service, notification_status="sending")
    create_letter(connection, s3, service, notification_status=None)
    held_back = create_letter(connection, s3, service)
    defer(connection, held_back, service)
    return {"service": service, "held_back": held_back}


def defer(connection, letter, service, reason: str = "AccessDenied") -> None:
    connection.execute(
        text(
            "INSERT INTO retention.deferred_rows VALUES (:letter, :service, 'real', now(), :reason, 1, now(), "
            "now(), now() + interval '1 day', false, 'letter')"
        ),
        {"letter": letter, "service": service, "reason": reason},
    )


def test_the_plan_counts_what_tonight_would_do(connection, s3, flask):
    service = a_bit_of_everything(connection, s3)["service"]
    planned = json.loads(flask("plan", "--json").stdout)
    [letters] = next(of["services"] for of in planned["types"] if of["notification_type"] == "letter")
    [emails] = next(of["services"] for of in planned["types"] if of["notification_type"] == "email")
    assert next(of["services"] for of in planned["types"] if of["notification_type"] == "sms") == []
    counted = ("service_id", "rows", "test_rows", "not_final", "unknown_status", "deferred")
    assert [letters[name] for name in counted] == [str(service), 1, 1, 1, 1, 1]
    assert [emails[name] for name in counted] == [str(service), 3, 1, 0, 0, 0]
    assert letters["cutoff"] > emails["cutoff"], "three days against the default of seven"


def test_the_plan_as_a_table_has_the_same_numbers(connection, s3, flask):
    service = a_bit_of_everything(connection, s3)["service"]
    said = flask("plan").stdout
    rows = {tuple(line.split()[:2]): line.split()[-7:] for line in said.splitlines() if str(service) in line}
    assert rows == {
        (str(service), "email"): ["3", "0", "1", "0", "0", "0", "0"],
        (str(service), "letter"): ["1", "1", "1", "1", "1", "1", "0"],
    }
    assert "4 rows to move, 1 of them letters; 2 test rows to delete." in said
    assert "3 stay: 1 not final, 1 in no known status, 1 deferred until their next attempt, 0 on hold." in said


def test_the_plan_counts_what_is_on_hold_as_staying(connection, s3, flask):
    everything, other = a_bit_of_everything(connection, s3), create_service(connection)
    create_notification(connection, other, "email")
    flask("hold", everything["service"], "--reason", "an inquiry")
    said = flask("plan").stdout
    assert "1 rows to move, 0 of them letters; 0 test rows to delete." in said
    assert "9 stay: 1 not final, 1 in no known status, 1 deferred until their next attempt, 6 on hold." in said


def test_under_a_pause_the_plan_counts_what_would_go_without_it(connection, s3, flask):
    a_bit_of_everything(connection, s3)
    held = create_service(connection)
    create_notification(connection, held, "email")
    flask("hold", held, "--reason", "an inquiry")
    before = flask("plan").stdout
    flask("pause", "--reason", "first night")
    paused, *said = flask("plan").stdout.splitlines()
    assert paused.startswith("The pipeline is paused by ")
    assert paused.endswith(" (first night): nothing moves until: flask retention resume")
    assert said == before.splitlines()


def four_and_two_and_without_service(connection) -> tuple[UUID, UUID]:
    """Overdue text messages: four of a service, two of another, four of none."""
    many, few = create_service(connection), create_service(connection)
    for service in [many] * 4 + [few] * 2 + [None] * 4:
        create_notification(connection, service, "sms")
    return many, few


@pytest.mark.parametrize(
    ("options", "counted_to", "of_many", "without_service"),
    [([], 3, (3, True), (3, True)), (["--exact"], None, (4, False), (4, False))],
    ids=["capped", "exact"],
)
def test_the_plan_counts_the_oldest_rows_of_a_service_and_type_unless_it_must_be_exact(
    connection, flask, monkeypatch, options, counted_to, of_many, without_service
):
    monkeypatch.setattr(retention_plan, "COUNT_NO_FURTHER", 3)
    many, few = four_and_two_and_without_service(connection)
    planned = json.loads(flask("plan", "--json", *options).stdout)
    of_sms = next(of for of in planned["types"] if of["notification_type"] == "sms")
    counts = {one["service_id"]: (one["rows"], one["more"]) for one in of_sms["services"]}
    assert counts == {str(many): of_many, str(few): (2, False)}
    assert (of_sms["rows_without_service"], of_sms["more_without_service"]) == without_service
    assert planned["counted_to"] == counted_to


def test_a_plan_that_did_not_count_everything_says_so(connection, flask, monkeypatch):
    monkeypatch.setattr(retention_plan, "COUNT_NO_FURTHER", 3)
    many, few = four_and_two_and_without_service(connection)
    said = flask("plan").stdout
    ends = {line.split()[0]: line.rstrip().split("  ")[-1].strip() for line in said.splitlines() if " sms " in line}
    assert (ends[str(many)], ends[str(few)]) == ("the oldest 3", "all")
    assert "At least 5 rows to move, 0 of them letters; 0 test rows to delete." in said
    assert "Where only the oldest 3 rows are counted there may be more." in said
    assert "At least 3 overdue sms rows have no service." in said
    exactly = flask("plan", "--exact").stdout
    assert ("counted" in exactly, "At least" in exactly) == (False, False)


def test_what_was_counted_is_shown_when_the_database_gives_up_on_a_type(connection, flask, monkeypatch):
    services = sorted(create_service(connection) for _ in range(2))
    for service in services:
        for notification_type in ("email", "sms", "letter"):
            create_notification(connection, service, notification_type)
    count = overview_dao.overdue_of_services

    def gives_up(asked, notification_type, of, *more):
        yield from count(asked, notification_type, of[:1] if notification_type == "sms" else of, *more)
        if notification_type == "sms":
            asked.execute(CANCEL_MYSELF)

    monkeypatch.setattr(overview_dao, "overdue_of_services", gives_up)
    told = flask("plan", "--json")
    planned = {of["notification_type"]: of for of in json.loads(told.stdout)["types"]}
    assert [[one["service_id"] for one in of["services"]] for of in planned.values()] == [
        [str(one) for one in expected] for expected in (services, services[:1], services)
    ]
    assert [of["stopped"] for of in planned.values()] == [None, "canceling statement due to user request", None]
    said = flask("plan")
    assert "5 rows to move" in said.stdout
    for lacking in (told, said, flask("run", "--dry-run")):
        assert "Not everything is in the plan for sms (canceling statement" in sentence_of(lacking)
    assert flask("run", "--dry-run", "--type", "email").exit_code == 0


def test_a_type_has_an_end_however_many_services_it_has(connection, flask, monkeypatch):
    for _ in range(2):
        create_notification(connection, create_service(connection))
    monkeypatch.setattr(retention_plan, "STATEMENTS_OF_A_TYPE", 0)
    told = flask("plan", "--json")
    [emails, *_] = json.loads(told.stdout)["types"]
    assert (len(emails["services"]), emails["stopped"]) == (1, "its time was up at 1 of 2 services")
    assert "Not everything is in the plan for email (its time was up" in sentence_of(told)


def test_a_reason_is_shown_as_it_was_written(connection, flask):
    service, reason = str(create_service(connection)), "see [/wiki] and [bold]ask"
    assert flask("pause", "--reason", reason).exit_code == 0
    assert flask("hold", service, "--reason", reason).exit_code == 0
    for command, times in (("plan", 2), ("status", 3)):  # the pause is a verdict, too
        assert " ".join(flask(command).stdout.split()).count(f"({reason})") == times


def test_a_statement_that_took_too_long_is_said_in_a_sentence(flask, monkeypatch):
    monkeypatch.setattr(overview_dao, "RUNS", CANCEL_MYSELF)
    assert "The database gave up on a statement: canceling statement" in sentence_of(flask("status"))


def test_the_plan_names_what_is_left_alone_and_why(connection, flask):
    refused = create_service(connection, email=0)
    held = create_service(connection)
    create_notification(connection, None, "sms")
    flask("hold", held, "--reason", "an inquiry")
    said = flask("plan").stdout
    assert f"Service {refused}, email: nothing of it goes, a retention of 0 days is refused" in said
    assert "1 overdue sms rows have no service" in said
    assert f"On hold: {held} (an inquiry)" in said


def test_the_plan_writes_nothing_in_transactions_that_could_not(app, connection, s3, flask):
    a_bit_of_everything(connection, s3)
    before, modes = contents(connection), []

    @event.listens_for(app.extensions["db.engine"], "commit")
    def note(ending):
        modes.append(ending.exec_driver_sql("SHOW transaction_read_only").scalar())

    assert flask("plan").exit_code == 0
    of_tables, of_holds, *of_types, of_policies = modes
    assert {of_tables, of_holds, *of_types, of_policies} == {"on"}
    assert len(of_types) == 3, "none is held open while the next is counted"
    assert contents(connection) == before


def contents(connection) -> dict[str, int]:
    """Rows of every table, by its name."""
    tables = connection.execute(
        text("SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('public', 'retention')")
    ).scalars()
    return {table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables}


def test_run_starts_chains_for_what_is_overdue_and_sends_their_messages(connection, flask, messages):
    service = create_service(connection)
    create_notification(connection, service, "sms")
    result = flask("run")
    assert (result.exit_code, result.stdout) == (0, "1 chains started.\n")
    [chain] = chains(connection)
    assert (chain["service_id"], chain["notification_type"], chain["state"]) == (None, "sms", "waiting")
    assert messages() == [("sweep-notifications", [], {"chain": chain["id"], "step": 0})]


def test_run_of_nothing_overdue_says_so(connection, flask, messages):
    create_notification(connection, create_service(connection), "sms", days_ago(1))
    result = flask("run")
    assert (result.exit_code, chains(connection), messages()) == (0, [], [])
    assert "Nothing to start" in result.stdout


def test_run_twice_starts_once(connection, flask, messages):
    create_notification(connection, create_service(connection))
    flask("run")
    assert "Nothing to start" in flask("run").stdout
    assert (len(chains(connection)), len(messages())) == (1, 1)


def test_run_is_narrowed_by_type_and_by_service(connection, flask):
    services = [create_service(connection) for _ in range(2)]
    for service in services:
        for notification_type in ("email", "sms", "letter"):
            create_notification(connection, service, notification_type)
    assert flask("run", "--type", "sms", "--type", "letter", "--service", services[0]).exit_code == 0
    started = {(chain["service_id"], chain["notification_type"]) for chain in chains(connection)}
    assert started == {(services[0], "sms"), (services[0], "letter")}


@pytest.mark.parametrize(
    ("before", "kept"), [("2020-01-01", False), ("2020-01-01T00:00:00+00:00", False), (None, True)]
)
def test_run_before_an_earlier_cut_off_takes_that(connection, flask, before, kept):
    service = create_service(connection)
    create_notification(connection, service)
    flask("run", *(["--before", before] if before else []))
    [chain] = chains(connection)
    assert (chain["cutoff"].isoformat() != "2020-01-01T00:00:00+00:00") is kept


def test_run_dry_shows_the_plan_and_starts_nothing(connection, s3, flask, messages):
    service = a_bit_of_everything(connection, s3)["service"]
    before = contents(connection)
    result = flask("run", "--dry-run", "--type", "letter")
    assert (result.exit_code, messages(), contents(connection)) == (0, [], before)
    assert "1 rows to move, 1 of them letters" in result.stdout
    assert (str(service) in result.stdout, "Dry run" in result.stdout) == (True, True)


def test_run_before_a_time_to_come_is_refused_unless_forced_and_retentions_hold_even_then(connection, flask, messages):
    service = create_service(connection)
    create_notification(connection, service)
    said = sentence_of(flask("run", "--before", FUTURE))
    assert "is after the start of today" in said
    assert "--force" in said
    assert (chains(connection), messages()) == ([], [])
    assert flask("run", "--before", FUTURE, "--force").exit_code == 0
    [chain] = chains(connection)
    assert chain["cutoff"] < days_ago(6)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "--type", "fax"], "'fax' is not one of 'email', 'sms', 'letter'"),
        (["run", "--service", "not-an-id"], "'not-an-id' is not a valid UUID"),
        (["run", "--service", "00000000-0000-0000-0000-00000000dead"], "there is no service '00000000-0000"),
        (["run", "--before", "yesterday"], "'yesterday' is not a date"),
        (["hold", "not-an-id", "--reason", "x"], "'not-an-id' is not a valid UUID"),
        (["hold", "00000000-0000-0000-0000-00000000dead", "--reason", "x"], "there is no service '00000000-0000"),
        (["hold", "00000000-0000-0000-0000-00000000dead"], "Missing option '--reason'"),
        (["lift", "00000000-0000-0000-0000-00000000dead"], "is not on hold"),
        (["retry", "--id", "letter-1"], "'letter-1' is not a valid UUID"),
        (["pause"], "Missing option '--reason'"),
        (["status", "--nights", "0"], "0 is not in the range"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_refused_with_a_sentence(connection, flask, messages, arguments, sentence):
    create_notification(connection, create_service(connection))
    before = contents(connection)
    assert sentence in sentence_of(flask(*arguments))
    assert (contents(connection), messages()) == (before, [])


def test_status_before_the_first_night_says_how_one_starts(connection, flask):
    seem_alive(connection)
    result = flask("status")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "Nothing is overdue.")
    assert "No run yet. Beat starts one every night; by hand: flask retention run" in result.stdout
    told = json.loads(flask("status", "--json").stdout)
    assert (told["severity"], told["verdicts"], told["held_back"]) == ("healthy", [], {"rows": 0, "needing_person": 0})
    assert [told[name] for name in ("runs", "batches", "sweeps", "buckets", "holds", "blocked")] == [[]] * 6


def test_status_sums_what_the_steps_did_and_says_what_rests(connection, s3, flask):
    service = create_service(connection)
    for _ in range(3):
        create_notification(connection, service, "sms")
    create_letter(connection, s3, service)
    flask("run", "--type", "sms")
    nightly_tasks.delete_notifications_for_service_and_type.apply(
        args=[str(service), "sms", days_ago(0).isoformat()], kwargs={"chain": 1, "step": 0}
    )
    flask("pause", "--reason", "a migration")
    flask("run", "--type", "letter")
    nightly_tasks.delete_notifications_for_service_and_type.apply(
        args=[str(service), "letter", days_ago(0).isoformat()], kwargs={"chain": 2, "step": 0}
    )
    seem_alive(connection)
    asked = flask("status")
    lines = asked.stdout.splitlines()
    assert (asked.exit_code, lines[0].startswith("1 row of letter should be gone")) == (3, True)
    assert f"attention: The pipeline is paused by {getuser()} (a migration)" in asked.stdout
    night = f"{tonight()}"
    assert any(line.startswith(f"  {night} sms: 1 batch moved 3 rows, the last at ") for line in lines)
    assert f"  {night} letter, real: 1 resting (paused)." in lines
    assert "On hold: pipeline (a migration), by " in asked.stdout
    assert max(map(len, lines)) <= 80
    told = json.loads(flask("status", "--json").stdout)
    assert [(one["notification_type"], one["steps"], one["moved"]) for one in told["batches"]] == [
        ("letter", 1, 0),
        ("sms", 1, 3),
    ]
    assert {(one["state"], one["reason"]) for one in told["sweeps"]} == {("ended", None), ("resting", "paused")}
    assert datetime.fromisoformat(told["batches"][0]["last_at"]).utcoffset() == timedelta(0)
    assert (len(history(connection)), len(live(connection))) == (3, 1)


def test_the_whole_plan_is_gone_when_its_chains_have_ended(connection, s3, flask):
    """The numbers promised are the numbers moved."""
    everything = a_bit_of_everything(connection, s3)
    flask("run")
    for _ in range(20):
        for chain in chains(connection):
            if chain["state"] == "waiting":
                which = {"chain": chain["id"], "step": chain["step"]}
                if chain["service_id"] is None:
                    nightly_tasks.sweep_notifications.apply(kwargs=which)
                else:
                    task = nightly_tasks.delete_notifications_for_service_and_type
                    arguments = [str(chain["service_id"]), chain["notification_type"], chain["cutoff"].isoformat()]
                    task.apply(args=arguments, kwargs=which)
    assert {chain["state"] for chain in chains(connection)} == {"ended"}
    planned = json.loads(flask("plan", "--json").stdout)
    left = [
        [service[name] for name in ("rows", "test_rows", "not_final", "unknown_status", "deferred")]
        for of_type in planned["types"]
        for service in of_type["services"]
    ]
    assert left == [[0, 0, 1, 1, 1]]
    assert len(history(connection)) == 4
    assert everything["held_back"] in live(connection)
    assert sum(step["deleted"] for step in steps(connection)) == 2
