"""Celery's configuration: names that others rely on, and what keeps a task from being lost."""

import json
import os
import subprocess
import sys

import pytest
from celery.schedules import crontab

from app import config
from app.celery import configuration
from app.local.product import ROOT

SETTINGS = {
    "DATABASE_URL": "postgresql://me@db.example.test/platform",
    "CELERY_BROKER_URL": "redis://broker.example.test/0",
    "S3_BUCKET_LETTERS_PDF": "letters-pdf",
    "S3_BUCKET_TEST_LETTERS": "test-letters",
    "S3_BUCKET_INVALID_PDF": "invalid-pdf",
    "S3_BUCKET_LETTERS_SCAN": "letters-scan",
}

# Python name in app.celery.nightly_tasks, and Celery name.
NAMES = {
    "delete_notifications_older_than_retention": "delete-notifications-older-than-retention",
    "delete_email_notifications_older_than_retention": "delete-email-notifications",
    "delete_sms_notifications_older_than_retention": "delete-sms-notifications",
    "delete_letter_notifications_older_than_retention": "delete-letter-notifications",
    "delete_notifications_for_service_and_type": "delete-notifications-for-service-and-type",
    "delete_test_notifications_for_service_and_type": "delete-test-notifications-for-service-and-type",
    "dispatch_retention": "dispatch-retention",
}

# In a process of its own: tasks are bound to their configuration once, when they are first looked at.
DESCRIBE = """
import json
from app.celery import celery, nightly_tasks
found = {}
for name in vars(nightly_tasks):
    task = getattr(nightly_tasks, name)
    if hasattr(task, "apply_async") and task.app is celery:
        found[name] = {
            "name": task.name,
            "late": task.acks_late,
            "rejected": task.reject_on_worker_lost,
            "ignored": task.ignore_result,
            "queue": celery.amqp.router.route({}, task.name)["queue"].name,
        }
own = [name for name in celery.tasks if not name.startswith("celery.")]
print(json.dumps({"tasks": found, "registered": own, "main": celery.main}))
"""


def python(script: str, environment: dict[str, str]) -> str:
    """What a script prints in a process with these variables and no others of ours."""
    return subprocess.run(
        [sys.executable, "-c", script],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=ROOT,
    ).stdout


def configured(**changes: str) -> dict[str, object]:
    return configuration(config.load({**SETTINGS, **changes}))


@pytest.fixture(scope="module")
def described() -> dict[str, dict[str, dict[str, object]]]:
    return json.loads(python(DESCRIBE, SETTINGS))


def test_the_tasks_have_the_names_that_others_rely_on(described):
    assert {python_name: task["name"] for python_name, task in described["tasks"].items()} == NAMES
    assert set(described["registered"]) == set(NAMES.values())


def test_every_task_is_acknowledged_late_given_back_when_its_worker_is_lost_and_keeps_no_result(described):
    kept = {(task["late"], task["rejected"], task["ignored"]) for task in described["tasks"].values()}
    assert kept == {(True, True, True)}


def test_nightly_work_shares_its_queue_with_nothing_else(described):
    queues = {task["name"]: task["queue"] for task in described["tasks"].values()}
    assert queues.pop("dispatch-retention") == "retention-periodic"
    assert set(queues.values()) == {"retention-nightly"}


def test_queues_are_named_by_settings_and_no_other_is_made_by_a_typing_error():
    made = configured(QUEUE_NIGHTLY="n", QUEUE_PERIODIC="p")
    bound = [(queue.name, queue.exchange.name, queue.routing_key) for queue in made["task_queues"]]
    assert bound == [("n", "n", "n"), ("p", "p", "p")]
    assert (made["task_default_queue"], made["task_create_missing_queues"]) == ("n", False)
    assert made["beat_schedule"]["dispatcher"]["options"]["queue"] == "p"
    assert made["beat_schedule"]["nightly"]["options"]["queue"] == "n"


def test_a_worker_takes_one_message_at_a_time_and_json_only():
    made = configured()
    assert made["worker_prefetch_multiplier"] == 1
    assert (made["accept_content"], made["task_serializer"]) == (["json"], "json")


@pytest.mark.parametrize(
    ("zone", "at", "hour", "minute"), [("Europe/London", None, 3, 0), ("Africa/Cairo", "22:15", 22, 15)]
)
def test_the_night_starts_at_its_local_time_and_the_dispatcher_looks_every_minute(zone, at, hour, minute):
    made = configured(RETENTION_TIMEZONE=zone, **({"RETENTION_NIGHTLY_AT": at} if at else {}))
    night, dispatcher = made["beat_schedule"]["nightly"], made["beat_schedule"]["dispatcher"]
    assert night["task"] == "delete-notifications-older-than-retention"
    assert night["schedule"] == crontab(hour=hour, minute=minute)
    assert (made["timezone"], made["enable_utc"]) == (zone, True)
    assert (dispatcher["task"], dispatcher["schedule"]) == ("dispatch-retention", 60)
    assert dispatcher["options"]["expires"] < 60


@pytest.mark.parametrize(
    ("last_night", "next_night"),
    [
        ("2026-03-28T03:00", "2026-03-29T03:00"),  # 23 hours: the clocks go forward at 01:00
        ("2026-10-24T03:00", "2026-10-25T03:00"),  # 25 hours: they go back at 02:00
    ],
)
def test_beat_waits_for_three_o_clock_local_when_the_clocks_change(last_night, next_night):
    script = f"""
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo
from app.celery import celery
zone = ZoneInfo("Europe/London")
schedule = celery.conf.beat_schedule["nightly"]["schedule"]
schedule.app = celery
last = datetime.fromisoformat("{last_night}").replace(tzinfo=zone)
there = datetime.fromisoformat("{next_night}").replace(tzinfo=zone)
answers = []
for now in (there - timedelta(seconds=1), there):
    schedule.nowfun = lambda now=now: now
    answers.append(schedule.is_due(last).is_due)
print(answers)
"""
    assert python(script, SETTINGS).strip() == "[False, True]"


@pytest.mark.parametrize(
    ("broker", "expected"),
    [
        ("redis://broker/0", {"visibility_timeout": 777, "unacked_restore_interval": 2, "unacked_restore_throttle": 1}),
        (
            "rediss://broker/0",
            {"visibility_timeout": 777, "unacked_restore_interval": 2, "unacked_restore_throttle": 1},
        ),
        (
            "sqs://",
            {
                "visibility_timeout": 777,
                "region": "eu-west-1",
                "is_secure": True,
                "wait_time_seconds": 2,
                "polling_interval": 0.2,
            },
        ),
        ("amqp://broker//", {"confirm_publish": True}),
        ("amqps://broker//", {"confirm_publish": True}),
    ],
)
def test_each_broker_is_told_what_keeps_its_messages(broker, expected):
    made = configured(CELERY_BROKER_URL=broker, VISIBILITY_TIMEOUT_SECONDS="777")
    assert made["broker_transport_options"] == expected


@pytest.mark.parametrize(
    ("broker", "arguments", "control"),
    [
        ("redis://broker/0", None, True),
        ("sqs://", None, False),
        ("amqp://broker//", {"x-queue-type": "quorum", "x-delivery-limit": 20}, True),
        ("amqps://broker//", {"x-queue-type": "quorum", "x-delivery-limit": 20}, True),
    ],
)
def test_rabbitmq_keeps_its_queues_on_several_nodes_and_drops_what_nobody_survives(broker, arguments, control):
    made = configured(CELERY_BROKER_URL=broker)
    assert [queue.queue_arguments for queue in made["task_queues"]] == [arguments, arguments]
    assert all(queue.durable for queue in made["task_queues"])
    assert made["worker_enable_remote_control"] == control, "on SQS it would take a queue per worker"


@pytest.mark.parametrize(("budget", "shutdown"), [("5", 7.5), ("60", 90), ("75", 110)])
def test_a_worker_told_to_stop_has_time_for_its_step_and_is_done_before_it_is_killed(budget, shutdown):
    made = configured(STEP_BUDGET_SECONDS=budget)
    assert made["worker_soft_shutdown_timeout"] == shutdown < 120
    assert float(budget) < shutdown
    assert made["task_time_limit"] > float(budget)


def test_importing_the_celery_application_needs_no_environment():
    assert python("import app.celery.nightly_tasks; print('imported')", {}) == "imported\n"


def test_celery_finds_the_application_by_its_module(described):
    found = python("from celery.app.utils import find_app; print(find_app('app.celery').main)", {})
    assert found.strip() == described["main"] == "app"
