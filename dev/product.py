"""The product on a stack: its migrations, and the command lines of its processes."""

import sys
from pathlib import Path

from alembic import command

from app.config import psycopg2_url
from app.revisions import alembic_config

ROOT = Path(__file__).parents[1]
WORKERS = 2


def migrate(database_url: str) -> None:
    """Apply all migrations."""
    command.upgrade(alembic_config(psycopg2_url(database_url)), "heads")


def worker() -> list[str | Path]:
    """A pool of worker processes on all queues of the product."""
    return [*_celery(), "worker", "--concurrency", str(WORKERS)]


def beat(directory: Path) -> list[str | Path]:
    """What starts the nights and the dispatcher; it keeps its schedule's state in `directory`."""
    return [*_celery(), "beat", "--schedule", directory / "beat-schedule", "--pidfile", ""]


def web(port: int) -> list[str | Path]:
    """As the Procfile has it; gunicorn.conf.py, which says the rest, is read from the current directory."""
    return [
        *(sys.executable, "-m", "gunicorn", "app:create_app()"),
        *("--bind", f"127.0.0.1:{port}", "--workers", str(WORKERS)),
    ]


def _celery() -> tuple[str, ...]:
    return (sys.executable, "-m", "celery", "-A", "app.celery")
