"""Stepping in by hand: deferred letters, holds, the pause, and accepting that files are missing."""

import json
from collections.abc import Callable
from uuid import UUID

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import Connection, text

from app.celery import nightly_tasks
from app.retention import chains as chain_steps
from app.retention import operations
from app.retention.arguments import CutoffInFuture
from tests.factories import chains, create_letter, create_notification, create_service, days_ago, history, live

Command = Callable[..., Result]


@pytest.fixture
def flask(app: Flask) -> Command:
    """Runs a `flask retention` command."""
    runner = app.test_cli_runner()
    return lambda *arguments, **more: runner.invoke(args=["retention", *map(str, arguments)], **more)


def open_chain(service: UUID, notification_type: str) -> None:
    """A chain for what the service has overdue of the type; no message is sent."""
    assert operations.run([notification_type], service)


def take_steps(connection: Connection) -> None:
    """Do the steps that are due, one after another, as workers would."""
    for _ in range(20):
        due = [chain for chain in chains(connection) if chain["state"] == "waiting"]
        if not due:
            return
        for chain in due:
            chain_steps.run_step(chain["id"], chain["step"], None)


def states(connection: Connection) -> set[tuple[str, str | None]]:
    return {(chain["state"], chain["reason"]) for chain in chains(connection)}


def defer(connection: Connection, letter: UUID, service: UUID, reason: str = "AccessDenied") -> None:
    connection.execute(
        text(
            "INSERT INTO retention.deferred_rows VALUES (:letter, :service, 'real', now(), :reason, 9, now(), "
            "now(), now() + interval '1 day', true, 'letter')"
        ),
        {"letter": letter, "service": service, "reason": reason},
    )


def due_letters(connection: Connection) -> set[UUID]:
    statement = "SELECT notification_id FROM retention.deferred_rows WHERE next_attempt_at <= now()"
    return set(connection.execute(text(statement)).scalars())


def test_deferred_letters_are_listed_with_reason_and_what_comes_next(connection, flask):
    service = create_service(connection)
    letter = create_notification(connection, service, "letter")
    defer(connection, letter, service)
    asked = flask("deferred")
    lines = asked.stdout.splitlines()
    assert (asked.exit_code, lines[:2]) == (1, [f"letter {letter}", f"  of service {service}"])
    assert lines[2].startswith("  AccessDenied, 9 attempts since ")
    assert "needs a person" in asked.stdout
    assert "1 of 1 held-back rows shown, those that need a person first." in lines
    assert max(map(len, lines)) <= 80
    told = json.loads(flask("deferred", "--json").stdout)
    assert (told["total"], told["needing_person"], told["buckets"]) == (1, 1, [])
    assert (told["rows"][0]["notification_id"], told["rows"][0]["attempts"]) == (str(letter), 9)


def test_what_needs_a_person_comes_first_and_what_does_not_is_no_act(connection, flask):
    service = create_service(connection)
    letters = [create_notification(connection, service, "letter") for _ in range(2)]
    for letter in letters:
        defer(connection, letter, service)
    connection.execute(text("UPDATE retention.deferred_rows SET needs_person = false"))
    assert flask("deferred").exit_code == 3
    newest = "UPDATE retention.deferred_rows SET needs_person = true, first_failed_at = now() + interval '1 day'"
    connection.execute(text(f"{newest} WHERE notification_id = :letter"), {"letter": letters[1]})
    asked = flask("deferred")
    assert (asked.exit_code, asked.stdout.splitlines()[0]) == (1, f"letter {letters[1]}")


def test_nothing_deferred_is_said_too(flask):
    asked = flask("deferred")
    assert (asked.exit_code, asked.stdout) == (0, "Nothing is held back.\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"locked", "denied", "others"}),
        (["--reason", "AccessDenied"], {"denied", "others"}),
        (["--service", "own"], {"locked", "denied"}),
        (["--service", "own", "--reason", "AccessDenied"], {"denied"}),
        (["--id", "locked"], {"locked"}),
        (["--id", "locked", "--id", "others"], {"locked", "others"}),
        (["--reason", "NoSuchReason"], set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_retry_makes_those_due_that_it_names(connection, flask, arguments, expected):
    own, other = create_service(connection), create_service(connection)
    letters = {name: create_notification(connection, own, "letter") for name in ("locked", "denied")}
    letters["others"] = create_notification(connection, other, "letter")
    defer(connection, letters["locked"], own, "ObjectLocked")
    defer(connection, letters["denied"], own)
    defer(connection, letters["others"], other)
    known = {"own": own, **letters}
    result = flask("retry", *(known.get(argument, argument) for argument in arguments))
    assert due_letters(connection) == {letters[name] for name in expected}
    assert (f"{len(expected)} are due now." if expected else "No deferred letter fits.") in result.stdout


def test_a_hold_keeps_a_services_rows_and_lifting_it_lets_them_go(connection, flask):
    held, other = create_service(connection), create_service(connection)
    kept, gone = create_notification(connection, held), create_notification(connection, other)
    assert f"Service {held} is on hold." in flask("hold", held, "--reason", "an inquiry").stdout
    assert "was on hold already" in flask("hold", held, "--reason", "again").stdout
    for service in (held, other):
        open_chain(service, "email")
    take_steps(connection)
    assert (live(connection), history(connection)) == ({kept}, {gone})
    assert states(connection) == {("resting", "on-hold"), ("ended", None)}
    assert "The hold is lifted; 1 chains go on." in flask("lift", held).stdout
    take_steps(connection)
    assert (live(connection), history(connection)) == (set(), {kept, gone})


def test_a_pause_keeps_everything_and_resuming_lets_it_go_on(connection, flask):
    service = create_service(connection)
    row = create_notification(connection, service)
    assert "The pipeline is paused." in flask("pause", "--reason", "a migration").stdout
    assert "was paused already" in flask("pause", "--reason", "again").stdout
    open_chain(service, "email")
    take_steps(connection)
    assert (live(connection), states(connection)) == ({row}, {("resting", "paused")})
    assert "The pipeline goes on, with 1 chains." in flask("resume").stdout
    take_steps(connection)
    assert (live(connection), history(connection)) == (set(), {row})
    assert "The pipeline was not paused." in flask("resume").stdout


def test_who_stepped_in_and_why_is_kept(connection, flask):
    service = create_service(connection)
    flask("hold", service, "--reason", "an inquiry")
    flask("pause", "--reason", "a migration")
    holds = connection.execute(text("SELECT scope, reason, placed_by <> '' FROM retention.holds")).all()
    assert {tuple(hold) for hold in holds} == {(str(service), "an inquiry", True), ("pipeline", "a migration", True)}


@pytest.fixture
def letters_without_files(connection: Connection, s3) -> set[UUID]:
    """A chain that rests because none of its letters has a file."""
    service = create_service(connection)
    letters = {create_letter(connection, s3, service, file=False) for _ in range(30)}
    open_chain(service, "letter")
    take_steps(connection)
    assert (live(connection), states(connection)) == (letters, {("resting", "missing-files")})
    return letters


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_accepting_missing_files_asks_and_nothing_goes_without_a_yes(connection, flask, letters_without_files, answer):
    result = flask("accept-missing", input=answer)
    assert result.exit_code == 1
    assert "their files stay behind for good. Accept? [y/N]" in result.output.replace("\n", " ")
    take_steps(connection)
    assert (live(connection), states(connection)) == (letters_without_files, {("resting", "missing-files")})


@pytest.mark.parametrize(("arguments", "answer"), [([], "y\n"), (["--yes"], "")])
def test_accepted_missing_files_let_the_chain_go_on(connection, flask, letters_without_files, arguments, answer):
    result = flask("accept-missing", *arguments, input=answer)
    assert (result.exit_code, "Accepted; 1 chains go on." in result.output) == (0, True)
    take_steps(connection)
    assert (live(connection), history(connection)) == (set(), letters_without_files)
    assert states(connection) == {("ended", None)}


def test_status_says_what_to_do_about_missing_files(connection, flask, letters_without_files):
    assert "flask retention accept-missing" in flask("status").stdout


def test_accepting_when_nothing_is_missing_says_so(flask):
    assert "No chain rests for missing files." in flask("accept-missing", "--yes").stdout


def test_the_tasks_are_plain_functions_too(connection, app):
    """As people call them from `flask shell`: one step, and the number of rows."""
    service = create_service(connection)
    row = create_notification(connection, service)
    kept = create_notification(connection, service, key_type="test")
    assert nightly_tasks.delete_notifications_for_service_and_type(service, "email", days_ago(1)) == 1
    assert (live(connection), history(connection), chains(connection)) == ({kept}, {row}, [])
    cutoff = days_ago(1).isoformat()
    assert nightly_tasks.delete_test_notifications_for_service_and_type(str(service), "email", cutoff) == 1
    assert (live(connection), history(connection)) == (set(), {row})


def test_a_task_refuses_a_cutoff_after_the_start_of_today_unless_forced_and_retentions_hold_even_then(connection, app):
    service = create_service(connection)
    old, new = create_notification(connection, service), create_notification(connection, service, "email", days_ago(2))
    for task in (
        nightly_tasks.delete_notifications_for_service_and_type,
        nightly_tasks.delete_test_notifications_for_service_and_type,
    ):
        with pytest.raises(CutoffInFuture, match="is after the start of today"):
            task(service, "email", days_ago(-1))
    assert live(connection) == {old, new}
    task = nightly_tasks.delete_notifications_for_service_and_type
    assert task(service, "email", days_ago(-1), force=True) == 1
    assert live(connection) == {new}
