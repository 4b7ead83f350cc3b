"""`/health/ready`: everything that work needs, each by name, within seconds.

Seen to fail: the broker's check taken out, ten times as long to answer, the states with an error's text, nothing kept.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from app import create_app
from app.ops import health
from app.ops.health import SECONDS_TO_ANSWER, Looks
from tests.fakes.silent import silent_port

BUCKETS = {
    f"bucket:{name}" for name in ("letters_pdf", "test_letters", "invalid_pdf", "letters_scan", "user_files", "exports")
}
ALL = {"database", "migrations", "broker", *BUCKETS}


def ready(app: Any) -> Any:
    app.extensions.pop("ops.ready", None)
    return app.test_client().get("/health/ready")


def failing(answer: Any) -> dict[str, str]:
    return {name: state for name, state in answer.json["checks"].items() if state != "ok"}


@pytest.fixture
def changed(app: Any, settings: Any) -> Iterator[Any]:
    made = []

    def make(**update: Any) -> Any:
        made.append(create_app(settings.model_copy(update=update)))
        return made[-1]

    yield make
    for one in made:
        one.extensions["db.engine"].dispose()


def test_all_is_well_when_everything_answers(app):
    answer = ready(app)
    assert (answer.status_code, answer.json["status"]) == (200, "ready")
    assert set(answer.json["checks"]) == ALL
    assert failing(answer) == {}


@pytest.mark.parametrize(
    ("update", "names"),
    [
        ({"database_url": "postgresql+psycopg2://who:secret@127.0.0.1:9/none"}, {"database", "migrations"}),
        ({"celery_broker_url": "redis://:secret@127.0.0.1:9/0"}, {"broker"}),
        ({"s3_bucket_letters_scan": "there-is-no-such-bucket"}, {"bucket:letters_scan"}),
        ({"aws_endpoint_url_s3": "http://127.0.0.1:9"}, BUCKETS),
    ],
    ids=["database", "broker", "bucket", "s3"],
)
def test_what_is_away_is_named_and_nothing_else_is_said(changed, update, names):
    answer = ready(changed(**update))
    assert (answer.status_code, answer.json["status"]) == (503, "not ready")
    assert set(failing(answer)) == names
    assert "secret" not in answer.text
    assert "127.0.0.1" not in answer.text


def test_a_migration_that_is_missing_is_seen(app, connection):
    newest = connection.execute(text("SELECT max(version_num) FROM alembic_version")).scalar()
    connection.execute(text("DELETE FROM alembic_version WHERE version_num = :newest"), {"newest": newest})
    try:
        answer = ready(app)
    finally:
        connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": newest})
    assert failing(answer) == {"migrations": "not at the newest migration"}
    assert answer.status_code == 503


def test_servers_that_are_silent_are_not_waited_for(changed, monkeypatch):
    with silent_port() as port:
        app = changed(
            database_url=f"postgresql+psycopg2://who@127.0.0.1:{port}/none",
            celery_broker_url=f"redis://127.0.0.1:{port}/0",
            aws_endpoint_url_s3=f"http://127.0.0.1:{port}",
        )
        waits: list[float] = []
        wait = health.wait
        monkeypatch.setattr(health, "wait", lambda futures, seconds: waits.append(seconds) or wait(futures, seconds))
        answer = ready(app)
    assert waits == [SECONDS_TO_ANSWER]
    assert set(failing(answer)) == ALL
    assert failing(answer)["database"] == "no answer in time"


def test_what_was_seen_is_kept_for_a_moment(app, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(health, "checks", lambda _settings: {"counted": lambda _s: asked.append("asked")})
    ready(app)
    app.test_client().get("/health/ready")
    assert asked == ["asked"]
    looks: Looks = app.extensions["ops.ready"]
    looks.until = 0
    app.test_client().get("/health/ready")
    assert asked == ["asked", "asked"]
