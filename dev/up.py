"""`make up`: the product in the foreground, on the embedded servers or on those that the environment names.

`make shell` finds an embedded stack by the file `.local/stack.json` of this checkout, on which `up` holds a
lock: the kernel lets go of it however `up` ends, so a file without a lock is a file of the past.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from app.config import Settings
from dev import breaking, ops_access, product
from dev.environment import isolated_environment
from dev.processes import HOST, Child, StartError, answers, free_port
from dev.progress import SeedProgress, console
from dev.seed import Plan, seed
from dev.seed_model import Buckets
from dev.signals import cleaning_up, endings_interrupt, endings_wait
from dev.stack import Stack

SERVERS = ("DATABASE_URL", "CELERY_BROKER_URL", "AWS_ENDPOINT_URL_S3")
USUAL_PORT = 5000
S3_WITH_SWITCH = Path(__file__).with_name("s3_switch.py")
SECONDS_BETWEEN_LOOKS = 0.5

# A night spreads its start over minutes; a person who tries it out would rather see it at once.
FOR_ONE_PERSON = {
    "FAN_OUT_SPREAD_SECONDS": "2",
    "DISPATCH_EVERY_SECONDS": "5",
    "RETRY_AFTER_SECONDS": "2",
    "REMAP_SIGTERM": "SIGQUIT",
}

Start = Callable[[str, Sequence[str | Path]], Child]


class NotNow(StartError):
    """What was asked for can't be done; the message says why and what to do instead."""


def run(state: Path) -> int:
    """Run until Ctrl-C or SIGTERM (KeyboardInterrupt), or until a process ends (StartError)."""
    given = [name for name in SERVERS if os.environ.get(name, "").strip()]
    if not given:
        _on_embedded_servers(state)
    elif {"DATABASE_URL", "CELERY_BROKER_URL"} <= set(given):
        _on_given_servers()
    else:
        missing = [name for name in SERVERS[:2] if name not in given]
        raise NotNow(
            f"{' and '.join(given)} is set and {' and '.join(missing)} is not: a stack that is half embedded "
            "would look for one system's letters in another's S3. Set both DATABASE_URL and CELERY_BROKER_URL, "
            f"or unset {' and '.join(given)}."
        )
    return 0


def shell(state: Path) -> int:
    """Become `flask shell`, on the servers that the environment names, else on those that `up` runs."""
    environment = dict(os.environ)
    if not environment.get("DATABASE_URL", "").strip():
        environment = isolated_environment() | _chosen_settings() | _running(state)
    argv = [sys.executable, "-m", "flask", "--app", "app", "shell"]
    os.chdir(product.ROOT)
    os.execve(sys.executable, argv, environment)  # noqa: S606 - no shell is wanted between us


def break_bucket(state: Path, bucket: str) -> int:
    """Make a bucket of the stack that `up` runs refuse everything, with letters in it that are overdue."""
    breaking.break_bucket(bucket, isolated_environment() | _chosen_settings() | _running(state))
    return 0


def fix_bucket(state: Path, bucket: str) -> int:
    """Make it answer again."""
    breaking.fix_bucket(bucket, _running(state))
    return 0


def _running(state: Path) -> dict[str, str]:
    """The variables of the stack that `up` runs."""
    with contextlib.suppress(FileNotFoundError), state.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            environment: dict[str, str] = json.load(file)["environment"]
            return environment
    raise NotNow("Nothing is running: start `make up` in another terminal")


def _on_embedded_servers(state: Path) -> None:
    settings, page = {"METRICS_TOKEN": secrets.token_hex(16)} | _chosen_settings(), ops_access.access()
    with _only_one(state) as announcement, Stack(s3_server=[S3_WITH_SWITCH]) as stack:

        def start(name: str, argv: Sequence[str | Path]) -> Child:
            own = dict(page.settings) if name == "web" else {}
            return stack.start_process(name, argv, settings | own, product.ROOT)

        product.migrate(stack.postgres.url)
        _seed_a_little(stack)
        _serve(start, stack.directory, lambda: _announce(announcement, stack.environment | settings), page.says)


def _on_given_servers() -> None:
    """Neither migrations nor a seed: these servers are somebody's."""
    with contextlib.ExitStack() as ends:
        directory = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="notifications-up-")))
        ends.enter_context(endings_interrupt())
        children: list[Child] = []
        ends.callback(_stop, children)

        def start(name: str, argv: Sequence[str | Path]) -> Child:
            log = directory / f"{name}.log"
            with endings_wait():
                children.append(Child(name, argv, log=log, env=os.environ, cwd=product.ROOT))
            return children[-1]

        _serve(start, directory, lambda: None, "as OPS_USERS or OPS_PROXY_HEADER say")


def _serve(start: Start, directory: Path, announce: Callable[[], None], who: str) -> None:
    """Start the product, say where it is, and watch over it."""
    port = _web_port()
    children = [
        start("web", product.web(port)),
        start("worker", product.worker()),
        start("beat", product.beat(directory)),
    ]
    children[0].wait_until(lambda: answers(port))
    announce()
    print(f"web:  http://{HOST}:{port} (health: http://{HOST}:{port}/health/live)")
    print(f"ops:  http://{HOST}:{port}/ops ({who})")
    print(f"logs: {directory}/{{web,worker,beat}}.log")
    print("next: make shell in another terminal; Ctrl-C here stops everything", flush=True)
    while True:
        for child in children:
            if not child.running:
                raise StartError(f"{child.name} ended, status {child.status}. Its log:\n{child.log_tail()}")
        time.sleep(SECONDS_BETWEEN_LOOKS)


@contextmanager
def _only_one(state: Path) -> Iterator[IO[str]]:
    """The state's file, locked by this process, and removed when the block ends."""
    state.parent.mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(state, os.O_CREAT | os.O_RDWR, 0o600), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotNow("`make up` is running already in this checkout") from None
        if not state.exists() or not os.path.samestat(os.fstat(file.fileno()), state.stat()):
            raise NotNow("Another `make up` was just ending: try again")
        try:
            yield file
        finally:
            state.unlink(missing_ok=True)


def _announce(announcement: IO[str], environment: Mapping[str, str]) -> None:
    """Leave the variables for `shell`, and print them for people."""
    announcement.seek(0)
    json.dump({"environment": dict(environment)}, announcement)
    announcement.truncate()
    announcement.flush()
    for name, value in environment.items():
        print(f"export {name}={shlex.quote(value)}")


def _seed_a_little(stack: Stack) -> None:
    """A few services with something overdue, so that there is something to see."""
    plan = Plan(datetime.now(UTC), services=6, messages=1_200, letters=60, history=200, awkward_cases=False)
    with closing(stack.s3.client()) as s3, SeedProgress(console()) as progress:
        seed(stack.postgres.url, s3, Buckets.from_environment(stack.environment), plan, progress)


def _chosen_settings() -> dict[str, str]:
    """Settings for one person, and those that the shell has set but for what names a server, a bucket or a sender."""
    names = {name.upper() for name in Settings.model_fields}
    names = {name for name in names if not name.startswith(("S3_BUCKET_", "AWS_"))} - {*SERVERS, "EMAIL_SENDER"}
    chosen = {name: os.environ[name] for name in sorted(names) if os.environ.get(name, "").strip()}
    return FOR_ONE_PERSON | chosen


def _web_port() -> int:
    return free_port() if answers(USUAL_PORT) else USUAL_PORT


def _stop(children: Sequence[Child]) -> None:
    with cleaning_up():
        for child in children:
            child.ask_to_stop()
        for child in children:
            child.finish(grace_seconds=20)
