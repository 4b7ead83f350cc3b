"""The servers and the worker pool, kept for all runs, and one run from its seed to the verdict."""

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.client import HTTPConnection
from typing import Any

import psycopg2
from flask import Flask

from app import config, create_app
from app.retention.tools import tools
from dev.environment import replaced_environment
from dev.processes import HOST
from dev.stack import Stack
from tests.brokers import VALKEY
from tests.faults import brokers, databases
from tests.faults.broker import VISIBILITY_TIMEOUT_SECONDS, Broker
from tests.faults.checker import Findings, judge
from tests.faults.control import KILL_CHILD, Control
from tests.faults.databases import Database
from tests.faults.pool import Pool
from tests.faults.run import FAULTS, Run
from tests.faults.s3_proxy import S3Proxy
from tests.faults.world import World, connect, empty_tables, put_files, query, take, write
from tests.servers import S3_SERVER, grant_buckets
from tests.variants import OWN
from tests.variants.policies import INVALID, LETTERS, POLICIES, SCAN, TESTS

SETTINGS = {
    "LETTERS_PER_STEP": "10",
    "MESSAGES_PER_STEP": "20",
    "ROWS_PER_SLICE": "40",
    "FAN_OUT_SPREAD_SECONDS": "0",
    "DISPATCH_EVERY_SECONDS": "1",
    "RETRY_AFTER_SECONDS": "0.2",
    "DEFERRAL_FIRST_MINUTES": "0.01",
    "LOCK_TIMEOUT_SECONDS": "1",
    "REMAP_SIGTERM": "SIGQUIT",
    "LOG_LEVEL": "INFO",
}
STEP_BUDGET_SECONDS = 5
PACE_WHERE_FOLDERS_ARE_UNKNOWN = 3
"""One letter is looked for in 31 of them, each a request, of a server that shares two cores with all of this."""
ROLES = {
    LETTERS: "S3_BUCKET_LETTERS_PDF",
    TESTS: "S3_BUCKET_TEST_LETTERS",
    INVALID: "S3_BUCKET_INVALID_PDF",
    SCAN: "S3_BUCKET_LETTERS_SCAN",
}
POSTGRES = {"deadlock_timeout": "200ms"}
SECONDS_BETWEEN_LOOKS, SECONDS_BETWEEN_DISPATCHES = 0.05, 0.5
SECONDS_TO_CALM = 15

REST = """
SELECT (SELECT count(*) FROM retention.chains WHERE state = 'waiting' OR lease_until IS NOT NULL) AS unfinished,
       (SELECT count(*) FROM retention.run_types WHERE fanned_out_at IS NULL) AS not_fanned_out,
       (SELECT count(*) FROM retention.run_types) AS types,
       (SELECT count(*) FROM retention.deferred_rows WHERE notification_id <> ALL (%(may_wait)s::uuid[])) AS letters,
       (SELECT count(*) FROM retention.deferred_buckets WHERE bucket <> ALL (%(buckets)s::text[])) AS buckets
"""


@dataclass
class Outcome:
    """What a run did and what was found."""

    names: tuple[str, ...]
    seed: int
    broker: str = VALKEY
    variant: str = OWN
    kills: int = 0
    hits: int = 0
    seconds: float = 0
    findings: Findings = field(default_factory=Findings)
    trace: str = ""
    """The pipeline's own records and the ends of the workers' logs, of a run that failed."""

    @property
    def replay(self) -> str:
        on = "" if self.broker == VALKEY else f"--broker {self.broker} "
        on += "" if self.variant == OWN else f"--variant {self.variant} "
        return f'python -m tests.faults {on}--seed {self.seed} --fault "{" + ".join(self.names) or "none"}"'


class Laboratory:
    """Open it with `laboratory()`. Runs are done one after another, in the main thread.

    The database's `url` is an administrator's, as is `s3`; the workers' are in `environment`. `pace`: so many times as
    long as elsewhere may a step take.
    """

    def __init__(self, stack: Stack, variant: str, database: Database, kind: str, broker: Broker) -> None:
        self.stack = stack
        self.variant, self.policy, self.database = variant, POLICIES[variant], database
        self.pace = PACE_WHERE_FOLDERS_ARE_UNKNOWN if self.policy.folder_may_be_unknown else 1
        self.visibility_seconds = VISIBILITY_TIMEOUT_SECONDS * self.pace
        self.proxy = S3Proxy(stack.s3.url)
        self.control = Control(stack.directory / "faults")
        environment = database.environment | SETTINGS | broker.environment
        if not self.policy.buckets:
            environment["MESSAGES_PER_STEP"] = "5"
        environment["STEP_BUDGET_SECONDS"] = str(STEP_BUDGET_SECONDS * self.pace)
        environment |= {
            "AWS_ENDPOINT_URL_S3": self.proxy.url,
            "AWS_ACCESS_KEY_ID": "WORKER" + secrets.token_hex(7).upper(),
            "FAULTS_CONTROL": str(self.control.directory),
            "FAULTS_VISIBILITY_SECONDS": str(self.visibility_seconds),
        }
        self.environment = stack.isolated_environment() | environment
        grant_buckets(self.environment | {"AWS_ENDPOINT_URL_S3": stack.s3.url})
        self.pool = Pool(stack, self.control, environment)
        self.kind, self.broker = kind, broker
        self.s3 = stack.s3.client()
        self.buckets = {
            role: self.environment[variable] for role, variable in ROLES.items() if role in self.policy.buckets
        }
        self.app = self._application()
        self._looking: Any = None
        """A connection that is kept while a run is watched."""

    def _application(self) -> Flask:
        """An application of this process, for what the platform's own code calls, receipts for instance.

        Made before there is a second thread: two that replaced the process's environment at once would leave theirs.
        """
        with replaced_environment(self.environment):
            made = create_app(config.load(self.environment))
            with made.app_context():
                if self.buckets:
                    _ = tools().files  # its client takes its credentials from the environment, once
        return made

    def run(self, names: Sequence[str], seed: int) -> Outcome:
        """One run, from empty tables to the verdict."""
        outcome = Outcome(tuple(names), seed, self.kind, self.variant)
        began = time.monotonic()
        self._calm()
        run = Run(self, seed, outcome.names)
        deaths, altered, asked = self.pool.deaths, self.proxy.altered, self.proxy.asked
        self.pool.steps_undone()
        try:
            self._prepare(run)
            began = time.monotonic()
            in_time = self._watch(run)
        finally:
            self._undo(run)
        if run.errors:
            raise run.errors[0]
        with self._connection() as connection:
            after = self._take(connection)
        run.rules.may_wait |= run.ambiguous()
        run.rules.files_are_exact &= not self.pool.steps_undone()
        outcome.findings = judge(run.before, after, run.rules)
        if not in_time:
            outcome.findings.stuck.append(f"not at rest after {run.seconds_most:.0f} s")
        if self.proxy.asked > asked and not self.buckets:
            outcome.findings.orphaned.append("S3 was asked, where letters have no files")
        obeyed = self.control.claimed()
        outcome.kills = self.pool.deaths - deaths + sum(action == KILL_CHILD for _, action in obeyed)
        outcome.hits = run.hits + len(obeyed) + self.proxy.altered - altered
        outcome.seconds = time.monotonic() - began
        if outcome.findings.all:
            outcome.trace = "\n".join([*map(str, after.records), self.pool.tail()])
        return outcome

    def close(self) -> None:
        self._stop_looking()
        self.pool.stop_all()
        self.proxy.close()
        self.s3.close()
        self.app.extensions["db.engine"].dispose()

    def _calm(self) -> None:
        """Nothing of an earlier run is under way: else its workers are ended."""
        end = time.monotonic() + SECONDS_TO_CALM
        while self.broker.pending() and time.monotonic() < end:
            self.pool.look()
            time.sleep(SECONDS_BETWEEN_LOOKS)
        if self.broker.pending():
            self.pool.stop_all()
            self.broker.purge()
        self.control.clear()
        self.pool.look()

    def _prepare(self, run: Run) -> None:
        for name in run.names:
            FAULTS[name](run)
        self.control.shift_clock(run.shift)
        self.pool.use(run.options.settings)
        data = run.seed_data()
        self._make_buckets(run)
        with self._connection() as connection:
            empty_tables(connection)
            write(connection, data, self.database.columns)
            put_files(self.stack.s3.url, self.buckets, data.files)
            run.before = self._take(connection)
        self.pool.fill()
        for action in run.seeded:
            action()

    def _make_buckets(self, run: Run) -> None:
        with closing(HTTPConnection(HOST, self.stack.s3.port, timeout=30)) as moto:
            moto.request("POST", "/moto-api/reset")
            moto.getresponse().read()
        region: Any = {"LocationConstraint": self.environment["AWS_REGION"]}
        for role, bucket in self.buckets.items():
            self.s3.create_bucket(
                Bucket=bucket, CreateBucketConfiguration=region, ObjectLockEnabledForBucket=role in run.options.locked
            )
            if role in run.options.versioned:
                self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def _watch(self, run: Run) -> bool:
        """Let the run's actions happen when their time comes, until everything is at rest. False: too late."""
        began = time.monotonic()
        if run.options.starts_nightly:
            run.nightly(run.options.nightly_arguments)
        dispatched, is_draining, was_empty = 0.0, False, False
        while (elapsed := time.monotonic() - began) < run.seconds_most:
            while run.actions and run.actions[0][0] <= elapsed:
                run.actions.pop(0)[1]()
            self.pool.look()
            if not is_draining and elapsed - dispatched >= SECONDS_BETWEEN_DISPATCHES:
                self.broker.dispatch()
                dispatched = elapsed
            is_quiet = not run.actions and self._is_quiet(run)
            is_empty = is_quiet and is_draining and not self.broker.pending() and self._is_quiet(run)
            if is_empty and was_empty:  # twice: on Redis a message that is given back is nowhere for a moment
                if not run.encores:
                    return True
                run.encores.pop(0)()
                is_empty = False
            is_draining, was_empty = is_quiet, is_empty
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return False

    def _is_quiet(self, run: Run) -> bool:
        """No chain waits, and nothing is held back that will be tried again with success."""
        if any(thread.is_alive() for thread in run.threads):
            return False
        values = {
            "may_wait": list(run.rules.may_wait | run.ambiguous()),
            "buckets": [self.buckets[role] for role in run.buckets_may_wait],
        }
        try:
            if self._looking is None or self._looking.closed:
                self._looking = connect(self.database.url)
            (row,) = query(self._looking, REST, values)
        except psycopg2.Error:
            self._stop_looking()
            return False
        is_started = row["types"] == len(self.policy.types) or not run.options.starts_nightly
        return is_started and not (row["unfinished"] or row["not_fanned_out"] or row["letters"] or row["buckets"])

    def _stop_looking(self) -> None:
        if self._looking is not None:
            self._looking.close()
        self._looking = None

    def _undo(self, run: Run) -> None:
        for action in run.undoes:
            action()
        for thread in run.threads:
            thread.join(timeout=SECONDS_TO_CALM)
        self.control.shift_clock(timedelta(0))

    def _take(self, connection: Any) -> World:
        return take(connection, self.s3, self.buckets, self.policy.referring)

    def _connection(self) -> "closing[Any]":
        return closing(connect(self.database.url))


@contextmanager
def laboratory(kind: str = VALKEY, variant: str = OWN) -> Iterator[Laboratory]:
    """The servers, started, with a broker of the kind and a database of the variant; everything is ended afterwards.

    Workers have the least that the product needs (tests/least.py); faults and checker are an administrator's.
    """
    with (
        Stack(postgres_settings=POSTGRES, s3_server=[S3_SERVER]) as stack,
        databases.opened(stack, variant) as database,
        brokers.opened(kind, stack) as broker,
        closing(Laboratory(stack, variant, database, kind, broker)) as lab,
    ):
        yield lab
