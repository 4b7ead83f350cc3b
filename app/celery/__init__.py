"""The Celery application: `celery -A app.celery worker`, `celery -A app.celery beat`.

Tasks acknowledge late, are given back when their worker is lost, and are taken one at a time; results are not
kept. The truth is in `retention.chains`, so that a message that is lost, late or delivered twice does no harm.
"""

import inspect
from copy import deepcopy
from functools import cached_property
from typing import Any, NoReturn

import structlog
from celery import Celery, Task, signals
from celery.concurrency import get_implementation
from celery.exceptions import Ignore
from flask import Flask, current_app, has_app_context
from kombu import Exchange, Queue
from sqlalchemy.exc import OperationalError

from app import broker, config, create_app, logs
from app.broker.transports import SECONDS_TO_CONFIRM
from app.celery import consumer, periodic, refusals, schedule
from app.celery.messages import ARGUMENTS, INTERVAL
from app.db import MOST_CONNECTIONS
from app.errors import BadArgument
from app.observability import error_reports, tracing
from app.retention.readiness import DatabaseNotReady, blockers, check_accounts

log = structlog.get_logger(__name__)

SQS_POLLING = {"wait_time_seconds": 2, "polling_interval": 0.2}
"""A message that a worker gives back stays hidden for the first, 10 s as shipped."""
SQS_PATIENCE = {
    "connect_timeout": SECONDS_TO_CONFIRM,
    "read_timeout": SECONDS_TO_CONFIRM,
    "retries": {"total_max_attempts": 2},
}
"""Of whoever sends or acknowledges: boto3's own time-outs and attempts come to minutes."""
QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 20}
"""A message that was given back so often is dropped: RabbitMQ's own limit since 4.0, none before."""
POOLS_OF_ONE_PROCESS = tuple(f"celery.concurrency.{name}" for name in ("thread", "gevent", "eventlet"))
SOFT_SHUTDOWN_IN_STEP_BUDGETS = 1.5
LONGEST_SOFT_SHUTDOWN_SECONDS = 110
"""A worker that is told to stop is killed 120 s later."""


class ContextTask(Task):
    """Runs in the application's context: the caller's, from `flask shell`, or the process's own, in a worker."""

    _flask_app: Flask | None = None

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if has_app_context():
            return self._checked(args, kwargs)
        with process_app().app_context():
            return self._checked(args, kwargs)

    def _checked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run; a message that makes no sense is refused with a sentence, and makes no more sense the next time."""
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError:  # not its text, which names what was given
            return self._refuse()
        interval = self.request.get(INTERVAL)
        try:
            if interval is None:
                return super().__call__(*args, **kwargs)
            return periodic.run(self.name, interval, lambda: super(ContextTask, self).__call__(*args, **kwargs))
        except BadArgument as error:
            return self._refuse(error.for_log)

    @cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(self.run)

    def _refuse(self, why: str | None = None) -> NoReturn:
        refusals.refuse(ARGUMENTS, self.name, self.request.id, why)
        refusals.write_down()
        raise Ignore


def process_app() -> Flask:
    """The one Flask application of this process."""
    if ContextTask._flask_app is None:
        ContextTask._flask_app = create_app()
    return ContextTask._flask_app


@signals.worker_process_init.connect
def _forget_the_parents_app(**_: Any) -> None:
    """A forked worker must not share its parent's connections."""
    ContextTask._flask_app = None


@signals.worker_process_shutdown.connect
def _send_what_waits(**_: Any) -> None:
    """A pool's process ends without Python's own farewell, in which this would be done."""
    tracing.flush()
    error_reports.flush()


@signals.worker_init.connect
def refuse_more_threads_than_connections(sender: Any = None, **_: Any) -> None:
    """A step would wait for a connection for as long as others take, and then fail."""
    pool = getattr(sender, "pool_cls", None)
    if pool is None or get_implementation(pool).__module__ not in POOLS_OF_ONE_PROCESS:
        return
    if sender.concurrency > MOST_CONNECTIONS:
        raise SystemExit(
            f"Error: {sender.concurrency} threads share the {MOST_CONNECTIONS} database connections of their process. "
            f"Start the worker with --concurrency={MOST_CONNECTIONS}, or with --pool=prefork."
        )


@signals.worker_init.connect
def _refuse_a_database_that_does_not_fit(**_: Any) -> None:
    """Ends the worker with a sentence where our tables are not there. What blocks some policies is said: the worker has
    others, and these go on when it is fixed. A database that can't be reached may come back: the worker waits.
    """
    app = create_app()
    try:
        with app.app_context():
            for problem in app.extensions["policies"].problems:
                log.error("policy-wrong", why=str(problem))
            for finding in blockers():
                log.error("precondition-failed", why=finding.in_full, blocks=sorted(finding.blocks))
            check_accounts(app.extensions["settings"])
    except DatabaseNotReady as error:
        raise SystemExit(f"Error: {error}") from None  # celery logs any other exception here, and starts
    except OperationalError as error:
        log.error("database-not-reachable", why=type(error.orig).__name__, fix="check DATABASE_URL and the server")
    finally:
        app.extensions["db.engine"].dispose()  # nothing open when the pool forks


@signals.setup_logging.connect
def _log_as_we_do(**_: Any) -> None:
    logs.configure(settings())


def settings() -> config.Settings:
    """The application's settings, or the environment's."""
    return current_app.extensions["settings"] if has_app_context() else config.load()


def configuration(settings: config.Settings) -> dict[str, Any]:
    """Celery's configuration from the settings."""
    return {
        "broker_url": settings.celery_broker_url,
        # Or Celery would take CELERY_BROKER_URL from the environment, as it is written there.
        "broker_read_url": settings.celery_broker_url,
        "broker_write_url": settings.celery_broker_url,
        "broker_transport_options": _transport(settings),
        "broker_use_ssl": broker.tls(settings),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # for ever: a broker that fails over may take its time
        "broker_channel_error_retry": True,  # READONLY, MISCONF and the like: of a broker that will be itself again
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_ignore_result": True,
        "task_time_limit": settings.task_time_limit_seconds,
        "worker_prefetch_multiplier": 1,
        "worker_soft_shutdown_timeout": min(
            SOFT_SHUTDOWN_IN_STEP_BUDGETS * settings.step_budget_seconds, LONGEST_SOFT_SHUTDOWN_SECONDS
        ),
        "worker_enable_soft_shutdown_on_idle": False,
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_queues": [_queue(name, settings) for name in settings.queues],
        "task_default_queue": settings.queue_nightly,
        "task_create_missing_queues": False,
        "worker_consumer": "app.celery.consumer:Consumer",
        # Whoever can write to the broker could stop workers, or make them take other queues.
        "worker_enable_remote_control": False,
        "longest_wait_seconds": settings.visibility_timeout_seconds + settings.account_retry_seconds,
        "task_routes": schedule.routes(settings),
        "timezone": settings.retention_timezone,
        "enable_utc": True,
        "beat_schedule": schedule.beat(settings),
    }


def _transport(settings: config.Settings) -> dict[str, Any]:
    """What the broker needs so that no message is lost, and a dead worker's comes back soon; docs/brokers.md."""
    visible: dict[str, Any] = {"visibility_timeout": settings.visibility_timeout_seconds}
    by_broker: dict[str, dict[str, Any]] = {
        # As shipped, a killed worker's task is looked for every 100 s only, and not for 300 s after a worker was
        # killed while it looked, since it still has the lock for it.
        "redis": visible
        | {"unacked_restore_interval": 2, "unacked_restore_throttle": 1, "unacked_mutex_expire": 10}
        | {"socket_timeout": SECONDS_TO_CONFIRM, "socket_connect_timeout": SECONDS_TO_CONFIRM},
        "amqp": {"confirm_publish": True},
        # Its address and credentials are boto3's to find (AWS_ENDPOINT_URL_SQS, a role); a host in the URL means TLS.
        "sqs": visible
        | {"region": settings.aws_region, "is_secure": True, "client-config": deepcopy(SQS_PATIENCE), **SQS_POLLING},
    }
    return by_broker[broker.kind(settings)]


def _queue(name: str, settings: config.Settings) -> Queue:
    """With an exchange and key of its own: without, Celery binds every queue to the default one's."""
    arguments = QUORUM if broker.kind(settings) == "amqp" else None
    return Queue(name, Exchange(name, type="direct"), routing_key=name, queue_arguments=arguments)


celery = Celery("app", task_cls=ContextTask, include=schedule.TASK_MODULES)
# Read when first used, so that importing this module needs no environment.
celery.add_defaults(lambda: configuration(settings()))
celery.steps["consumer"].add(consumer.PresenceStep)
