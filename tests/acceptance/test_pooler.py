"""A pooler that gives as many connections as there are worker processes: a step needs no second one.

A real PgBouncer, pooling by transaction. Seen to fail on the code before, which opened a connection for the intent
beside the step's own: two processes with two connections waited for each other, and 2 of 8 chains ended in 90 s.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, make_url, text

from app.celery import nightly_tasks
from dev.processes import Child, answers, free_port
from tests.acceptance.workers import Workers, eventually, have_ended
from tests.factories import create_letter, create_service, days_ago, history, keys

PROCESSES = 2
CONFIGURATION = """
[databases]
* = host={host} port={port} user={user} password={password} pool_size={pool_size}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
auth_type = any
pool_mode = transaction
unix_socket_dir =
logfile = {log}
"""


def pgbouncer() -> str:
    found = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is None and os.environ.get("REQUIRE_PGBOUNCER"):
        pytest.fail("pgbouncer is not installed, and REQUIRE_PGBOUNCER says that it must be")
    if found is None:
        pytest.skip("pgbouncer is not installed (Debian's package is called that)")
    return found


@pytest.fixture
def pooled(environment: dict[str, str], connection: Connection, tmp_path: Path) -> Iterator[Workers]:
    """Workers whose database is behind a pooler with one connection for each of their processes."""
    program, port = pgbouncer(), free_port()
    url = make_url(environment["DATABASE_URL"])
    configuration = tmp_path / "pgbouncer.ini"
    configuration.write_text(
        CONFIGURATION.format(
            host=url.host,
            port=url.port,
            user=url.username,
            password=url.password,
            pool_size=PROCESSES,
            listen_port=port,
            log=tmp_path / "pgbouncer.log",
        )
    )
    # It refuses to run as root.
    as_nobody = ["--user", "nobody"] if os.geteuid() == 0 else []
    for place in (tmp_path, *tmp_path.parents):
        if place == Path("/tmp"):  # noqa: S108 - where it ends, nothing is made there
            break
        place.chmod(place.stat().st_mode | 0o011)
    os.chmod(configuration, 0o644)
    log = tmp_path / "pgbouncer.log"
    log.touch(mode=0o666)
    log.chmod(0o666)
    pooler = Child(
        "pgbouncer", [program, *as_nobody, str(configuration)], log=tmp_path / "pooler.out", env=dict(os.environ)
    )
    pooler.wait_until(lambda: answers(port), timeout_seconds=20)
    through = url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
    workers = Workers({**environment, "DATABASE_URL": through}, tmp_path)
    yield workers
    workers.stop()
    pooler.kill()


def test_letters_move_with_as_many_connections_as_processes(pooled, connection, s3, settings):
    letters = set()
    for _ in range(8):
        service = create_service(connection)
        letters |= {create_letter(connection, s3, service, days_ago(40, hours=n)) for n in range(5)}
    pooled.start(pool=PROCESSES)
    pooled.send(nightly_tasks.delete_notifications_older_than_retention)
    eventually(lambda: have_ended(connection) and history(connection) == letters, seconds=60)
    assert keys(s3, settings.s3_bucket_letters_pdf) == set()
    assert connection.execute(text("SELECT count(*) FROM retention.intents")).scalar() == 0
