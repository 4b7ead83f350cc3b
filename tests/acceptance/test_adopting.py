"""A platform's team adopts its database by docs/adopting.md: its commands, in its order, as processes of their own,
with a real worker, beat, broker and S3, and the grants that were printed.

Seen to fail: a command on the page that nobody typed, a preset with another folder of letters, an --uninstall that
drops nothing.
"""

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text

from app.celery import nightly_tasks
from dev.product import ROOT
from tests.acceptance.workers import Workers, eventually
from tests.dumps import schema_dump
from tests.factories import days_ago, keys, naive
from tests.integration.test_cli_processes import FLASK, run
from tests.variants import database, rows
from tests.variants.adopted import SWITCHED_OFF, granted, login, url_of
from tests.variants.policies import EMAIL, LETTER, POLICIES

PAGE = ROOT / "docs" / "adopting.md"
COMMAND = re.compile(r"flask --app app (retention [^`#\n]+?|doctor)(?=\s*[`#\n])")
LIVE, HISTORY = "notifications", "notification_history"
SEEN = text("SELECT DISTINCT kind FROM retention.heartbeats ORDER BY kind")
PRIVILEGES = "--no-privileges"  # not looked at: to give the login no more than was printed, what all may do is revoked
NAME = "va-notify"
"""The platform that differs most: a bucket and folders of its own, a time zone, tables that point at notifications."""


@dataclass
class Team:
    """Types commands, each a process; `typed` has what was typed."""

    environment: Mapping[str, str]
    typed: set[str] = field(default_factory=set)

    def types(self, command: str, url: str, service: UUID | None = None, answer: str = "", exit_code: int = 0) -> str:
        """What it printed. The service is SERVICE in the command, as on the page."""
        self.typed.add(command)
        argv = shlex.split(command.replace("SERVICE", str(service)))
        environment = {"PATH": os.environ["PATH"], **self.environment, "DATABASE_URL": url}
        ended = run(*FLASK, *argv, environment=environment, typed=answer)
        assert ended.returncode == exit_code, ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stdout


@pytest.fixture
def engine(environment: dict[str, str]) -> Iterator[Engine]:
    """The owner's, of a database in which nothing of ours is."""
    with database(environment["DATABASE_URL"], NAME) as made:
        yield made


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """The owner's; every statement of it commits at once."""
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as made:
        yield made


@pytest.fixture
def workers(environment: dict[str, str], tmp_path: Path) -> Iterator[Workers]:
    an_hour_ago = datetime.now(POLICIES[NAME].zone) - timedelta(hours=1)  # a night that no beat begins meanwhile
    of_platform = {"PLATFORM_PRESET": NAME, "RETENTION_NIGHTLY_AT": f"{an_hour_ago:%H:%M}"}
    started = Workers({**environment, **SWITCHED_OFF, **of_platform}, tmp_path)
    yield started
    started.stop()


def letter(connection: Connection, s3: Any, bucket: str, service: UUID) -> UUID:
    """One that was sent a month ago, days after it was made, with its file."""
    sent, reference = naive(days_ago(30)), uuid4().hex[:16].upper()
    id_ = rows.create_notification(connection, service, LETTER, days_ago(33), reference=reference, sent_at=sent)
    made = rows.row(connection, LIVE, id_)
    assert made is not None
    [(_, prefix)] = POLICIES[NAME].places(made)
    s3.put_object(Bucket=bucket, Key=prefix + POLICIES[NAME].name("2", sent), Body=b"%PDF-1.4")
    return id_


@pytest.mark.usefixtures("granted_buckets")
def test_from_the_first_look_to_the_first_night_and_back_by_the_pages_own_commands(engine, connection, workers, s3):
    bucket = workers.environment["S3_BUCKET_LETTERS_PDF"]
    small, large = (rows.create_service(connection) for _ in range(2))
    emails = {rows.create_notification(connection, small, EMAIL) for _ in range(3)}
    letters = {letter(connection, s3, bucket, small) for _ in range(2)}
    others = {letter(connection, s3, bucket, large), rows.create_notification(connection, large, EMAIL)}
    referred = rows.create_notification(connection, large, EMAIL)
    rows.create_referring(connection, "scheduled_notifications", referred)
    young = rows.create_notification(connection, large, EMAIL, days_ago(1))
    before = {id_: rows.row(connection, LIVE, id_) for id_ in emails | letters | others}
    columns = set(rows.table(connection, HISTORY).columns.keys())
    url = url_of(engine)
    untouched = schema_dump(url, PRIVILEGES)
    team = Team(workers.environment)

    team.types("retention adopt", url)
    assert "data is kept" not in team.types(f"retention adopt --preset {NAME}", url)
    printed = team.types("retention adopt --install", url, answer="y\n")
    assert schema_dump(url, PRIVILEGES, "--exclude-schema=retention") == untouched
    with login(engine, granted(printed)) as of_login:
        workers.environment["DATABASE_URL"] = of_login
        team.types('retention pause --reason "first night"', of_login)
        worker, beat = workers.start(), workers.start_beat()
        eventually(lambda: connection.execute(SEEN).scalars().all() == ["periodic", "relay", "worker"])
        team.types("doctor", of_login)
        plan = team.types("retention plan", of_login)
        assert [str(service) in plan for service in (small, large)] == [True, True]
        assert team.types("retention rehearse", of_login).count("and undone") == 2
        assert rows.ids(connection, HISTORY) == set()
        team.types('retention hold SERVICE --reason "…"', of_login, large)
        team.types("retention resume", of_login)
        team.types("retention run --service SERVICE --type email --wait", of_login, small)
        assert rows.ids(connection, HISTORY) == emails
        team.types("retention run --service SERVICE --type letter --wait", of_login, small)
        assert rows.ids(connection, HISTORY) == emails | letters
        assert len(keys(s3, bucket)) == 1, "that of the other service"
        team.types("retention lift SERVICE", of_login, large)
        workers.send(nightly_tasks.delete_notifications_older_than_retention)
        eventually(lambda: rows.ids(connection, HISTORY) == set(before))
        team.types("retention status", of_login)
        assert "referred to by other rows" in team.types("retention overdue", of_login)
        for process in (beat, worker):
            process.ask_to_stop()
            assert process.wait(timeout_seconds=30) == 0
    assert keys(s3, bucket) == set()
    assert rows.ids(connection, LIVE) == {referred, young}
    for id_, live in before.items():
        assert rows.row(connection, HISTORY, id_) == {name: live[name] for name in columns}

    team.types("retention adopt --uninstall", url, exit_code=1)  # a worker was seen in the last minute
    connection.execute(text("UPDATE retention.heartbeats SET seen_at = seen_at - interval '1 minute'"))
    team.types("retention adopt --uninstall", url, answer="y\n")
    assert schema_dump(url, PRIVILEGES) == untouched
    assert rows.ids(connection, HISTORY) == set(before)
    documented = COMMAND.findall(PAGE.read_text().replace("--preset gc-notify", f"--preset {NAME}"))
    assert documented
    assert set(documented) <= team.typed
