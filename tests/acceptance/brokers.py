"""Workers on any of the brokers that the pipeline is tested on."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

from celery import Celery

from app import config
from app.celery import configuration
from app.celery.messages import INTERVAL
from app.dao.chains_dao import Wake
from dev.environment import replaced_environment
from dev.processes import Child
from tests.acceptance.workers import SETTINGS, Workers
from tests.brokers import QUEUES, TestBroker

STEP = "delete-notifications-for-service-and-type"


class WorkersOn(Workers):
    """Workers on such a broker, with queues of their own. `stop` ends them; the broker is its owner's to end."""

    def __init__(self, on: TestBroker, queues: list[str], environment: dict[str, str], directory: Path) -> None:
        self.directory = directory
        self.name = on.name
        self.environment = {
            **environment,
            **SETTINGS,
            **dict(zip(QUEUES, queues, strict=True)),
            **on.environment,
            "CELERY_BROKER_URL": on.url,
        }
        self._children: list[Child] = []
        self._reminded: dict[str, float] = {}
        self.sender = Celery("sender", set_as_current=False)
        self.sender.conf.update(configuration(config.load(self.environment)))
        self._stack = ExitStack()
        self._stack.enter_context(replaced_environment(self.environment))  # boto3 reads where SQS is from it

    def send(self, task: Any, *arguments: Any, **named: Any) -> None:
        self._send(task.name, arguments, named)

    def send_periodic(self, task: Any, interval_seconds: float) -> None:
        """A message as beat sends it, that says when the next comes."""
        self._send(task.name, (), {}, headers={INTERVAL: interval_seconds})

    def send_step(self, wake: Wake, task_id: str | None = None) -> str:
        """A chain's wake-up, as the pipeline sends it; its task id."""
        arguments = (str(wake.service_id), wake.notification_type, wake.cutoff.isoformat())
        task_id = task_id or str(uuid4())
        self._send(STEP, arguments, {"chain": wake.chain, "step": wake.step}, task_id=task_id)
        return task_id

    def _send(self, task: str, arguments: tuple[Any, ...], named: dict[str, Any], **options: Any) -> None:
        """On a connection of its own: kombu would give the next test this one's from its pool."""
        queue = self.environment["QUEUE_PERIODIC" if task == "dispatch-retention" else "QUEUE_NIGHTLY"]
        with self.sender.connection_for_write() as connection:
            self.sender.send_task(task, arguments, named, queue=queue, connection=connection, **options)

    def stop(self) -> None:
        with self._stack:
            for child in self._children:
                child.kill()
            self.sender.close()


def has_received(worker: Child, task_id: str) -> bool:
    return f"[{task_id}] received" in worker.log.read_text()
