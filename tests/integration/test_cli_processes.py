"""The commands as processes: what is wrong with the surroundings is said in sentences, never as a traceback."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import pytest
from sqlalchemy import create_engine, text

from app import config, create_app
from app.config import Settings, psycopg2_url
from app.version import VERSION
from dev.product import ROOT
from tests.factories import EMAIL_ADDRESS, create_notification, create_service, days_ago
from tests.forkserver import command, worker_process
from tests.servers import new_database

NEEDED = sorted(name.upper() for name, field in Settings.model_fields.items() if field.is_required())
FLASK = ("flask", "--app", "app")
CELERY = ("celery", "-A", "app.celery")
Process = Callable[..., "subprocess.CompletedProcess[str]"]


def run(*argv: str, environment: Mapping[str, str], typed: str = "") -> "subprocess.CompletedProcess[str]":
    """A module's command in a process of its own."""
    return command(argv, env=environment, typed=typed)


@pytest.fixture
def process(environment: dict[str, str]) -> Process:
    """Runs a command on the test's servers; `changes` are variables, unset where None."""

    def started(*argv: str, typed: str = "", **changes: str | None) -> "subprocess.CompletedProcess[str]":
        of_process = {name: value for name, value in {**environment, **changes}.items() if value is not None}
        return run(*argv, environment=of_process, typed=typed)

    return started


@pytest.mark.parametrize(
    "argv",
    [
        (*FLASK, "retention", "plan"),
        (*FLASK, "shell"),
        (*CELERY, "worker"),
        (*CELERY, "beat"),
        ("gunicorn", "app:create_app()", "--bind", "127.0.0.1:0"),
    ],
    ids=" ".join,
)
def test_missing_settings_are_named_one_by_one_without_a_traceback(argv):
    ended = run(*argv, environment={"PATH": os.environ["PATH"]})
    assert ended.returncode != 0
    assert "Traceback" not in ended.stdout + ended.stderr
    for name in NEEDED:
        assert ended.stderr.count(f"{name} is not set. ") == 1


def test_what_a_command_does_is_said_before_anything_is_set():
    ended = run(*FLASK, "retention", "plan", "--help", environment={"PATH": os.environ["PATH"]})
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "flask retention plan [OPTIONS]" in ended.stdout


def test_the_installed_command_lists_what_it_can_do_before_anything_is_set():
    ended = run("app", environment={"PATH": os.environ["PATH"]})
    said = ended.stdout + ended.stderr  # where a command without arguments shows its help depends on click's version
    assert "Usage: notify-retention" in said
    assert {"accounts", "db", "doctor", "retention", "sessions", "shell"} <= set(said.split())
    assert "Traceback" not in said
    version = run("app", "--version", environment={"PATH": os.environ["PATH"]})
    assert version.stdout == f"notify-retention, version {VERSION}\n"


def test_the_installed_command_does_what_flask_does(process):
    mine, flasks = (process(*argv, "db", "current") for argv in (("app",), FLASK))
    assert (mine.returncode, set(mine.stdout.splitlines())) == (0, set(flasks.stdout.splitlines()))
    assert "(head)" in mine.stdout


def test_a_wrong_setting_is_said_with_its_name_and_how_to_fix_it(process):
    ended = process(*FLASK, "retention", "plan", RETENTION_TIMEZONE="Mars/Olympus", LETTERS_PER_STEP="many")
    assert (ended.returncode, ended.stdout) == (1, "")
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 2
    assert "LETTERS_PER_STEP is wrong: " in ended.stderr
    assert "RETENTION_TIMEZONE is wrong: 'Mars/Olympus' is not a time zone; give an IANA name" in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    ["retention plan", "retention run", "retention status", "retention deferred", "retention resume", "db upgrade"],
)
def test_a_database_that_does_not_answer_is_said_in_a_sentence(environment, arguments):
    nowhere = {**environment, "DATABASE_URL": "postgresql://me:secret-word@127.0.0.1:1/nowhere"}
    ended = create_app(config.load(nowhere)).test_cli_runner().invoke(args=arguments.split())
    is_a_question = arguments in ("retention status", "retention deferred")
    assert (ended.exit_code, ended.stdout, type(ended.exception)) == (2 if is_a_question else 1, "", SystemExit)
    [line] = ended.stderr.strip().splitlines()
    assert line.startswith("Error: The database nowhere on 127.0.0.1:1 can't be reached: ")
    assert line.endswith("Check that the server runs and that DATABASE_URL names it.")
    assert "secret-word" not in ended.stderr


def test_a_database_without_our_tables_is_said_in_a_sentence(environment):
    with new_database(environment["DATABASE_URL"]) as url:
        runner = create_app(config.load({**environment, "DATABASE_URL": url})).test_cli_runner()
        for command in ("plan", "status"):
            ended = runner.invoke(args=["retention", command])
            [line] = ended.stderr.strip().splitlines()
            assert (ended.exit_code, "Make the tables with: flask db upgrade" in line) == (
                1 + (command == "status"),
                True,
            )


def test_history_that_could_not_be_filled_whole_is_refused_by_plan_and_said_by_a_worker(process, environment, tmp_path):
    """A column that only history has would be NULL for every row that moves. A worker has other policies: it starts."""
    sentence = "History has a column that notifications lacks: cost. Add cost to notifications"
    log = tmp_path / "worker.log"
    with new_database(environment["DATABASE_URL"]) as url:
        assert process(*FLASK, "db", "upgrade", DATABASE_URL=url).returncode == 0
        engine = create_engine(psycopg2_url(url))
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE notification_history ADD COLUMN cost numeric"))
        engine.dispose()
        planned = process(*FLASK, "retention", "plan", DATABASE_URL=url)
        argv = [sys.executable, "-m", *CELERY, "worker", "--pool", "solo"]
        worker = worker_process("worker", argv, log=log, env={**environment, "DATABASE_URL": url}, cwd=ROOT)
        try:
            worker.wait_until(lambda: " ready." in log.read_text(), 60)
        finally:
            worker.stop()
    assert (planned.returncode, f"Error: {sentence}" in planned.stderr) == (1, True)
    [said] = [line for line in log.read_text().splitlines() if "precondition-failed" in line]
    assert sentence in said
    assert "Traceback" not in planned.stderr + log.read_text()


def test_flask_db_goes_to_the_newest_revision_and_says_where_it_is(process, environment):
    with new_database(environment["DATABASE_URL"]) as url:
        said = {
            words: process(*FLASK, "db", *words.split(), DATABASE_URL=url)
            for words in ("upgrade", "current", "history", "heads")
        }
    assert {words: ended.returncode for words, ended in said.items()} == dict.fromkeys(said, 0)
    newest = sorted(
        max(path.name[:4] for path in (ROOT / "migrations" / branch).glob("[0-9]*.py"))
        for branch in ("platform", "retention")
    )
    assert sorted(re.findall(r"^(\d+)", said["current"].stdout, re.MULTILINE)) == newest
    assert sorted(re.findall(r"^(\d+)", said["heads"].stdout, re.MULTILINE)) == newest
    assert "0002 -> 0003 (retention), What a chain remembers" in said["history"].stdout


def test_flask_db_without_a_command_names_one(app):
    ended = app.test_cli_runner().invoke(args=["db"])
    assert ended.exit_code == 2
    assert "name a command, such as: flask db upgrade" in ended.stderr


def test_the_plan_for_programs_is_nothing_but_json(process, connection):
    create_notification(connection, create_service(connection))
    ended = process(*FLASK, "retention", "plan", "--json", LOG_LEVEL="DEBUG")
    assert (ended.returncode, json.loads(ended.stdout)["types"][0]["notification_type"]) == (0, "email")
    assert EMAIL_ADDRESS not in ended.stdout + ended.stderr


def test_the_shell_has_everything_at_hand_and_says_where_it_is_without_the_password(process, environment, connection):
    service = create_service(connection)
    create_notification(connection, service)
    url = urlsplit(environment["DATABASE_URL"])
    before = days_ago(10).isoformat()
    typed = (
        "print('night', delete_notifications_older_than_retention.name)\n"
        "print('emails', delete_email_notifications_older_than_retention.name)\n"
        "print('planned', sum(len(of_type.services) for of_type in plan().types))\n"
        "print('counted', db.session.query(Notification.id).count(), db.session.query(Service).count())\n"
        f"print('moved', delete_notifications_for_service_and_type('{service}', 'email', '{before}'))\n"
        "print('left', db.session.query(Notification.id).count(), db.session.query(NotificationHistory).count())\n"
    )
    typed += "print('users', len(accounts_plan()), sessions_status().total, account_status(GHOST_USER_ID))\n"
    typed += "print('overdue', overdue().sentence)\n"
    ended = process(*FLASK, "shell", typed=typed)
    said = ended.stdout.replace(">>> ", "")
    assert "night delete-notifications-older-than-retention\nemails delete-email-notifications\n" in said
    assert "users 0 0 None\noverdue Nothing is overdue.\n" in said
    assert ("planned 1\n" in said, "counted 1 1\n" in said, "moved 1\n" in said, "left 0 1\n" in said) == (True,) * 4
    assert f"Database {url.path[1:]} on {url.hostname}:{url.port} as {url.username}; letters in " in ended.stderr
    assert url.password
    assert url.password not in ended.stdout + ended.stderr
