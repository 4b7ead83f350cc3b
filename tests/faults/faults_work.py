"""What others do meanwhile: more chains, operators, receipts, late rows; and what the clock does."""

import sys
import time
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import psycopg2
from psycopg2 import errors
from sqlalchemy.exc import DBAPIError

from app.dao.notifications_dao import update_notification_status
from app.retention import delete_test_notifications, move_notifications_to_notification_history
from app.retention.steps import StepFailed
from dev.product import ROOT
from tests.faults.control import SLEEP
from tests.faults.data import Maker
from tests.faults.run import STEP, Run, fault
from tests.forkserver import worker_process
from tests.variants.policies import EMAIL, LONDON, NEW_YORK, SMS

RECEIPTS = ("delivered", "returned-letter", "permanent-failure", "temporary-failure", "failed")


def chains_for_one_service(run: Run, chains: int) -> None:
    """So many chains of one service and type beside the night's, each with a cut-off of its own."""

    def start() -> None:
        service, kind = run.data.services[0], run.random.choice(run.data.types)
        cutoff = run.cutoff(service, kind)
        for number in range(chains):
            before = cutoff - timedelta(microseconds=number) if number < 5 else cutoff - timedelta(hours=number)
            run.hits += run.lab.broker.send(STEP, [str(service), kind, before.isoformat()])

    for _ in range(chains):
        run.arm("after the choice", f"{SLEEP} 0.2", run.random.randint(0, 1))
    run.options.big = 60
    run.at(0, start)


@fault("two chains for one service")
def two_chains(run: Run) -> None:
    chains_for_one_service(run, 2)


@fault("eight chains for one service")
def eight_chains(run: Run) -> None:
    chains_for_one_service(run, 8)


@fault("eight slices of one service")
def eight_slices(run: Run) -> None:
    run.options.big = 300
    for _ in range(8):
        run.arm("after the choice", f"{SLEEP} 0.2", run.random.randint(0, 2))


@fault("the night is started by hand, too")
def by_hand(run: Run) -> None:
    def command() -> None:
        name = f"by-hand-{run.seed}"
        run.lab.stack.processes[name] = worker_process(
            name,
            [sys.executable, "-m", "flask", "--app", "app", "retention", "run"],
            log=run.lab.stack.directory / f"{name}.log",
            env=run.lab.environment,
            cwd=ROOT,
        )
        run.hits += 1

    def wait() -> None:
        run.lab.stack.processes.pop(f"by-hand-{run.seed}").wait(30)

    run.options.big = 200
    run.at(0, command)
    run.at(3, wait)


@fault("single steps by hand")
def steps_by_hand(run: Run) -> None:
    """As from `flask shell`: a plain call, beside the night's chains."""

    def call() -> None:
        for service in run.data.services[:2]:
            for kind in run.data.types:
                if run.data.days.get((service, kind), 1) > 0:
                    with run.lab.app.app_context(), suppress(StepFailed, DBAPIError):  # another fault's doing
                        move_notifications_to_notification_history(kind, service, run.cutoff(service, kind), 7)
                        delete_test_notifications(kind, service, run.cutoff(service, kind), 3)
        run.hits += 1

    if run.options.night is None:
        run.soon(lambda: run.beside(call), 0.5)


@fault("receipts arrive for rows that a step has")
def receipts(run: Run) -> None:
    """Each is written twice, the second time as another; the last one is the one that must be kept."""
    written: dict[Any, str] = {}

    def arrive(ids: list[Any]) -> None:
        statuses = [status for status in RECEIPTS if status in run.data.policy.final]
        with run.lab.app.app_context():
            for id_ in ids:
                status = statuses[hash(str(id_)) % len(statuses)] if id_ not in written else "cancelled"
                write(id_, status)
                written[id_] = run.rules.statuses[id_] = status
                run.hits += 1

    def write(id_: Any, status: str) -> None:
        """As the platform does, until the database takes it. The row is always there, in one of the tables."""
        for _ in range(100):
            try:
                update_notification_status(id_, status)
            except DBAPIError:  # another fault's doing
                time.sleep(0.1)
            else:
                return
        raise TimeoutError(f"the status of {id_} could not be written")

    def start() -> None:
        rows = [row for row in run.overdue(real_only=True) if row["id"] not in run.before.history]
        rows = [row for row in rows if row["notification_status"] not in ("virus-scan-failed", "technical-failure")]
        rows = [row for row in rows if not run.data.policy.is_unsent(row)]  # nobody has had it
        ids = [row["id"] for row in rows if row["notification_status"] != "validation-failed"]
        run.random.shuffle(ids)
        for part in (ids[:12], ids[12:24], ids[24:36]):
            run.beside(lambda part=part: arrive(part + part))

    for _ in range(8):
        run.arm("after the choice", f"{SLEEP} 0.4", run.random.randint(0, 1))
    run.at(run.random.uniform(0.1, 0.4), start)


@fault("rows with an old created_at arrive")
def late_rows(run: Run) -> None:
    """The night may have been where they are. The next one, started at the end, finds them."""

    def make(maker: Maker) -> None:
        for service in run.data.services[:3]:
            for kind in run.data.types:
                if run.data.days.get((service, kind), 1) > 0:
                    maker._ordinary(service, kind, 3)
        run.hits += 1

    for _ in range(3):
        run.soon(lambda: run.add_rows(make), 2)
    run.encore(lambda: run.nightly(run.options.nightly_arguments))


@fault("rows come to refer to notifications that a step has")
def references(run: Run) -> None:
    """Who is in time keeps the notification; who is too late learns that it has gone."""
    table = "scheduled_notifications"

    def refer(ids: list[Any]) -> None:
        for id_ in ids:
            made = made_to_refer(run, id_)
            if made is not None:
                run.data.referring[table].append(made)
                run.before.referring[table].append(made)
            run.hits += 1

    def start() -> None:
        # A letter whose file went with a step that another fault undid would stay without it.
        kinds = run.data.types if len(run.names) == 1 else (EMAIL, SMS)
        ids = [row["id"] for row in run.overdue() if row["notification_type"] in kinds]
        run.random.shuffle(ids)
        for part in (ids[:12], ids[12:24], ids[24:36]):
            run.beside(lambda part=part: refer(part))

    for _ in range(8):
        run.arm("after the choice", f"{SLEEP} 0.4", run.random.randint(0, 1))
    run.at(run.random.uniform(0.1, 0.4), start)


def made_to_refer(run: Run, notification_id: Any) -> dict[str, Any] | None:
    """The row that refers to it, once the database has taken it; None where the notification is no longer there."""
    statement = """
        INSERT INTO scheduled_notifications (id, notification_id, scheduled_for) VALUES (%s, %s, now())
        ON CONFLICT (id) DO UPDATE SET scheduled_for = excluded.scheduled_for RETURNING *
    """
    id_ = uuid4()
    for _ in range(100):
        try:
            (made,) = run.sql(statement, (id_, notification_id))
        except errors.ForeignKeyViolation:
            return None
        except psycopg2.OperationalError:  # another fault's doing
            time.sleep(0.1)
        else:
            return made
    raise TimeoutError(f"nothing could be made to refer to {notification_id}")


def on_night(run: Run, night: date, zone: ZoneInfo | None = None) -> None:
    run.options.night, run.options.zone = night, zone or run.options.zone
    run.hits += 1


SPRING = {LONDON: date(2026, 3, 29), NEW_YORK: date(2026, 3, 8)}
AUTUMN = {LONDON: date(2026, 10, 25), NEW_YORK: date(2026, 11, 1)}


@fault("the clock: a night in spring, an hour is missing")
def spring(run: Run) -> None:
    on_night(run, SPRING[run.options.zone] + timedelta(days=run.random.choice((0, 0, 1, 3, 7))))


@fault("the clock: a night in autumn, an hour comes twice")
def autumn(run: Run) -> None:
    on_night(run, AUTUMN[run.options.zone] + timedelta(days=run.random.choice((0, 0, 1, 3, 7))))


@fault("the clock: a midnight that does not exist")
def no_midnight(run: Run) -> None:
    """In Cairo the clocks go from 00:00 to 01:00, and back from 00:00 to 23:00 of the day before."""
    run.options.settings = {"RETENTION_TIMEZONE": "Africa/Cairo"}
    night = run.random.choice((date(2026, 4, 24), date(2026, 10, 30)))
    on_night(run, night + timedelta(days=run.random.choice((0, 1, 3, 7))), ZoneInfo("Africa/Cairo"))


@fault("the clock: tasks are executed a day late")
def day_late(run: Run) -> None:
    """The night's messages come a day later: its cut-offs hold, not the next day's."""
    real = datetime.now(run.options.zone).date()
    on_night(run, run.options.night or real)
    run.options.nightly_arguments = {"night": run.options.night.isoformat()}  # type: ignore[union-attr]
    shift = timedelta(days=1)
    run.when_seeded(lambda: run.lab.control.shift_clock(run.shift + shift))


@fault("the clock: a day passes in the middle")
def day_passes(run: Run) -> None:
    """Every lease has run out then, be it a moment old: who had it is undone."""
    run.inexact_files()

    def pass_day() -> None:
        run.lab.control.shift_clock(run.shift + timedelta(days=1))
        run.hits += 1

    run.soon(pass_day, 0.6)


@fault("a cut-off that is not midnight")
def odd_cutoff(run: Run) -> None:
    """No night: only messages, all with a cut-off at some minute of some day."""
    run.options.starts_nightly = False

    def start() -> None:
        limit = (
            datetime.now(UTC)
            + run.shift
            - timedelta(days=run.random.randint(4, 16), minutes=run.random.randint(1, 1400))
        )
        run.rules.before_limit = limit.replace(tzinfo=None)
        for service in run.data.services:
            for kind in run.data.types:
                run.hits += run.lab.broker.send(STEP, [str(service), kind, limit.isoformat()])

    run.at(0, start)
