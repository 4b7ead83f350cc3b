"""RabbitMQ is short of memory or disk: whoever sends hears of it, and does not hang.

Seen to fail: without a limit each of these waited for ever, and `flask doctor` said "It answers". By hand they came out
the same on a RabbitMQ 3.10 whose memory alarm `rabbitmqctl set_vm_memory_high_watermark` had set off.
"""

import pytest
from celery import Celery

from app import config
from app.broker import transports
from app.broker.transports import BrokerTakesNothing
from app.celery import configuration
from app.doctor import work
from app.doctor.finding import Level
from tests.fakes.blocking_rabbitmq import blocking_rabbitmq
from tests.unit.test_celery_configuration import SETTINGS


@pytest.mark.parametrize(
    ("says_so", "sentence"),
    [(True, "short of memory or of disk"), (False, "has not confirmed a message within 0.5 s")],
)
def test_who_sends_hears_that_rabbitmq_takes_nothing(monkeypatch, says_so, sentence):
    monkeypatch.setattr(transports, "SECONDS_TO_CONFIRM", 0.5)
    monkeypatch.setattr(work, "SECONDS_TO_ANSWER", 0.5)
    with blocking_rabbitmq(says_so) as url:
        settings = config.load({**SETTINGS, "CELERY_BROKER_URL": url})
        sender = Celery("sender", set_as_current=False)
        sender.conf.update(configuration(settings))
        with sender.connection_for_write() as connection:
            for _ in range(2):
                with pytest.raises(BrokerTakesNothing, match=sentence):
                    _send_twice(sender, settings.queue_periodic, connection)
        [found] = work.broker_answers(settings)
        assert found.level is Level.ERROR
        assert sentence in found.says


def _send_twice(sender: Celery, queue: str, connection: object) -> None:
    """RabbitMQ takes one message from each connection before it blocks it."""
    for _ in range(2):
        sender.send_task("dispatch-retention", queue=queue, connection=connection)
