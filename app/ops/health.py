"""`GET /health/ready`: can this process do its work now? For whoever sends it requests, and for people who wonder.

Says names and states only, so that it needs no password. Each check has seconds of its own, and all go at the same
time; what was seen is kept for a moment, so that asking often costs nothing.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, cast

from flask import Blueprint, Flask, Response, current_app, jsonify
from sqlalchemy.exc import SQLAlchemyError

from app import broker, revisions
from app.broker import BrokerAway
from app.config import Settings
from app.db import db
from app.retention import buckets
from app.retention.buckets import BucketTrouble
from app.retention.readiness import DatabaseNotReady, check_migrations

blueprint = Blueprint("ready", __name__, url_prefix="/health")

SECONDS_TO_ANSWER = 3.0
SECONDS_KEPT = 2.0
OK, NO_ANSWER = "ok", "no answer in time"

Check = Callable[[Settings], None]


@dataclass
class Looks:
    """What was seen last, and checks that hang still: they are not begun again before they end."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(thread_name_prefix="ready"))
    running: dict[str, Future[str]] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)
    until: float = 0.0


@blueprint.get("/ready")
def ready() -> tuple[Response, int]:
    """200, or 503 with what fails by name: the database, its migrations, the broker, each bucket."""
    looks: Looks = current_app.extensions.setdefault("ops.ready", Looks())
    with looks.lock:
        if time.monotonic() >= looks.until:
            looks.seen = _look(looks)
            looks.until = time.monotonic() + SECONDS_KEPT
        seen = looks.seen
    is_ready = all(state == OK for state in seen.values())
    return jsonify(status="ready" if is_ready else "not ready", checks=seen), 200 if is_ready else 503


def checks(settings: Settings) -> dict[str, Check]:
    """What is asked, by name."""
    return {
        "database": _database,
        "migrations": _migrations,
        "broker": _broker,
        **{f"bucket:{name}": _bucket(name) for name in buckets.named(settings)},
    }


def _look(looks: Looks) -> dict[str, str]:
    app: Flask = cast(Any, current_app)._get_current_object()  # the threads need itself
    settings: Settings = app.extensions["settings"]
    asked = checks(settings)
    _prepare(settings)
    for name, check in asked.items():
        if name not in looks.running:
            looks.running[name] = looks.pool.submit(_state, app, settings, check)
    done, _ = wait(looks.running.values(), SECONDS_TO_ANSWER)
    seen = {name: looks.running[name].result() if looks.running[name] in done else NO_ANSWER for name in asked}
    looks.running = {name: future for name, future in looks.running.items() if future not in done}
    return seen


def _prepare(settings: Settings) -> None:
    """What takes a second the first time, and is not the servers' time."""
    buckets.quick_client(settings.aws_region, settings.aws_endpoint_url_s3)
    for adopted in (False, True):
        revisions.newest(adopted=adopted)


def _state(app: Flask, settings: Settings, check: Check) -> str:
    """OK, or what is wrong in a word: an error's text may name hosts and users."""
    try:
        with app.app_context():
            check(settings)
    except DatabaseNotReady:
        return "not at the newest migration"
    except SQLAlchemyError as error:
        return type(getattr(error, "orig", None) or error).__name__
    except (BrokerAway, BucketTrouble) as error:
        return str(error)
    return OK


def _database(_settings: Settings) -> None:
    with db.transaction(statement_seconds=SECONDS_TO_ANSWER, read_only=True) as connection:
        connection.exec_driver_sql("SELECT 1")


def _migrations(_settings: Settings) -> None:
    check_migrations()


def _broker(settings: Settings) -> None:
    broker.ping(settings, SECONDS_TO_ANSWER)


def _bucket(name: str) -> Check:
    return lambda settings: buckets.look(settings, name)
