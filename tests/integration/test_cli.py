"""`flask retention …` by hand: what it says, what it does, and that what it refuses changes nothing."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import event, text

from app.celery import celery, nightly_tasks
from tests.factories import (
    chains,
    create_letter,
    create_notification,
    create_service,
    days_ago,
    history,
    live,
    steps,
)

FUTURE = "2999-01-01T00:00:00Z"
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
            "INSERT INTO retention.deferred_letters VALUES (:letter, :service, 'real', now(), :reason, 1, now(), "
            "now(), now() + interval '1 day', false)"
        ),
        {"letter": letter, "service": service, "reason": reason},
    )


def test_the_plan_counts_what_tonight_would_do(connection, s3, flask):
    service = a_bit_of_everything(connection, s3)["service"]
    planned = json.loads(flask("plan", "--json").stdout)
    [letters] = next(of["services"] for of in planned["types"] if of["notification_type"] == "letter")
    [emails] = next(of["services"] for of in planned["types"] if of["notification_type"] == "email")
    assert next(of["services"] for of in planned["types"] if of["notification_type"] == "sms") == []
    counted = ("service_id", "rows", "test_rows", "not_final", "deferred")
    assert [letters[name] for name in counted] == [str(service), 1, 1, 2, 1]
    assert [emails[name] for name in counted] == [str(service), 3, 1, 0, 0]
    assert letters["cutoff"] > emails["cutoff"], "three days against the default of seven"


def test_the_plan_as_a_table_has_the_same_numbers(connection, s3, flask):
    service = a_bit_of_everything(connection, s3)["service"]
    said = flask("plan").stdout
    rows = {tuple(line.split()[:2]): line.split()[-6:] for line in said.splitlines() if str(service) in line}
    assert rows == {
        (str(service), "email"): ["3", "0", "1", "0", "0", "0"],
        (str(service), "letter"): ["1", "1", "1", "2", "1", "0"],
    }
    assert "4 rows to move, 1 of them letters; 2 test rows to delete." in said
    assert "3 stay: 2 not final, 1 deferred until their next attempt, 0 on hold." in said


@pytest.mark.parametrize("command", ["hold", "pause"])
def test_the_plan_counts_what_is_on_hold_as_staying(connection, s3, flask, command):
    everything, other = a_bit_of_everything(connection, s3), create_service(connection)
    create_notification(connection, other, "email")
    flask(command, *([everything["service"]] if command == "hold" else []), "--reason", "an inquiry")
    moves = 1 if command == "hold" else 0
    said = flask("plan").stdout
    assert f"{moves} rows to move, 0 of them letters; 0 test rows to delete." in said
    assert f"{10 - moves} stay: 2 not final, 1 deferred until their next attempt, {7 - moves} on hold." in said


def test_the_plan_names_what_is_left_alone_and_why(connection, flask):
    refused = create_service(connection, email=0)
    held = create_service(connection)
    create_notification(connection, None, "sms")
    flask("hold", held, "--reason", "an inquiry")
    said = flask("plan").stdout
    assert f"Service {refused}, email: a retention of 0 days is refused" in said
    assert "1 overdue sms rows have no service" in said
    assert f"On hold: {held} (an inquiry)" in said


def test_the_plan_writes_nothing_in_transactions_that_could_not(app, connection, s3, flask):
    a_bit_of_everything(connection, s3)
    before, modes = contents(connection), set()

    @event.listens_for(app.extensions["db.engine"], "commit")
    def note(ending):
        modes.add(ending.exec_driver_sql("SHOW transaction_read_only").scalar())

    assert flask("plan").exit_code == 0
    assert modes == {"on"}
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
    assert (chain["service_id"], chain["notification_type"], chain["state"]) == (service, "sms", "waiting")
    name = "delete-notifications-for-service-and-type"
    arguments = [str(service), "sms", chain["cutoff"].isoformat()]
    assert messages() == [(name, arguments, {"chain": chain["id"], "step": 0})]


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


def test_status_before_the_first_night_says_how_one_starts(flask):
    result = flask("status")
    assert result.exit_code == 0
    assert "No run yet. Beat starts one every night; by hand: flask retention run" in result.stdout
    assert "0 letters deferred, 0 of them need a person." in result.stdout


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
    said = flask("status").stdout
    [did] = [line.split()[1:4] for line in said.splitlines() if line.split()[1:4:2] == ["sms", "3"]]
    assert did == ["sms", "1", "3"], "type, steps, moved"
    assert [line.split()[1:5] for line in said.splitlines() if "resting" in line] == [
        ["letter", "real", "resting", "paused"]
    ]
    assert "On hold: pipeline (a migration), by " in said
    assert (len(history(connection)), len(live(connection))) == (3, 1)


def test_the_whole_plan_is_gone_when_its_chains_have_ended(connection, s3, flask):
    """The numbers promised are the numbers moved."""
    everything = a_bit_of_everything(connection, s3)
    flask("run")
    for _ in range(20):
        for chain in chains(connection):
            if chain["state"] == "waiting":
                task = nightly_tasks.delete_notifications_for_service_and_type
                arguments = [str(chain["service_id"]), chain["notification_type"], chain["cutoff"].isoformat()]
                task.apply(args=arguments, kwargs={"chain": chain["id"], "step": chain["step"]})
    assert {chain["state"] for chain in chains(connection)} == {"ended"}
    planned = json.loads(flask("plan", "--json").stdout)
    left = [
        [service[name] for name in ("rows", "test_rows", "not_final", "deferred")]
        for of_type in planned["types"]
        for service in of_type["services"]
    ]
    assert left == [[0, 0, 2, 1]]
    assert len(history(connection)) == 4
    assert everything["held_back"] in live(connection)
    assert sum(step["deleted"] for step in steps(connection)) == 2
