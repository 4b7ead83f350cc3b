"""What others do meanwhile: more chains, operators, receipts, late rows; and what the clock does."""

import sys
import time
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.exc import DBAPIError

from app.dao.notifications_dao import update_notification_status
from app.local.product import ROOT
from app.retention import delete_test_notifications, move_notifications_to_notification_history
from app.retention.steps import StepFailed
from tests.faults.control import SLEEP
from tests.faults.data import LONDON, TYPES, Maker
from tests.faults.run import STEP, Run, fault


def chains_for_one_service(run: Run, chains: int) -> None:
    """So many chains of one service and type beside the night's, each with a cut-off of its own."""

    def start() -> None:
        service, kind = run.data.services[0], run.random.choice(TYPES)
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
        run.lab.stack.start_process(
            f"by-hand-{run.seed}",
            [sys.executable, "-m", "flask", "--app", "app", "retention", "run"],
            run.lab.environment,
            ROOT,
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
            for kind in TYPES:
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
    statuses = ("delivered", "returned-letter", "permanent-failure", "temporary-failure", "failed")
    written: dict[Any, str] = {}

    def arrive(ids: list[Any]) -> None:
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
            for kind in TYPES:
                if run.data.days.get((service, kind), 1) > 0:
                    maker._ordinary(service, kind, 3)
        run.hits += 1

    for _ in range(3):
        run.soon(lambda: run.add_rows(make), 2)
    run.encore(lambda: run.nightly(run.options.nightly_arguments))


def on_night(run: Run, night: date, zone: ZoneInfo = LONDON) -> None:
    run.options.night, run.options.zone = night, zone
    run.hits += 1


@fault("the clock: a night in spring, an hour is missing")
def spring(run: Run) -> None:
    on_night(run, date(2026, 3, 29) + timedelta(days=run.random.choice((0, 0, 1, 3, 7))))


@fault("the clock: a night in autumn, an hour comes twice")
def autumn(run: Run) -> None:
    on_night(run, date(2026, 10, 25) + timedelta(days=run.random.choice((0, 0, 1, 3, 7))))


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
            for kind in TYPES:
                run.hits += run.lab.broker.send(STEP, [str(service), kind, limit.isoformat()])

    run.at(0, start)
