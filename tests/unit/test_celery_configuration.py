"""Celery's configuration: names that others rely on, and what keeps a task from being lost."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from celery.schedules import crontab

from app import config
from app.celery import configuration, refuse_more_threads_than_connections, schedule
from app.celery.messages import INTERVAL
from dev.product import ROOT

SETTINGS = {
    "DATABASE_URL": "postgresql://me@db.example.test/platform",
    "CELERY_BROKER_URL": "redis://broker.example.test/0",
    "S3_BUCKET_LETTERS_PDF": "letters-pdf",
    "S3_BUCKET_TEST_LETTERS": "test-letters",
    "S3_BUCKET_INVALID_PDF": "invalid-pdf",
    "S3_BUCKET_LETTERS_SCAN": "letters-scan",
}

# Python name in its module, and Celery name.
NAMES = {
    "delete_notifications_older_than_retention": "delete-notifications-older-than-retention",
    "delete_email_notifications_older_than_retention": "delete-email-notifications",
    "delete_sms_notifications_older_than_retention": "delete-sms-notifications",
    "delete_letter_notifications_older_than_retention": "delete-letter-notifications",
    "delete_notifications_for_service_and_type": "delete-notifications-for-service-and-type",
    "sweep_notifications": "sweep-notifications",
    "delete_test_notifications_for_service_and_type": "delete-test-notifications-for-service-and-type",
    "dispatch_retention": "dispatch-retention",
    "catch_up_missed_night": "catch-up-missed-night",
    "delete_user_account": "delete-user-account",
    "relay_user_deletions": "relay-user-deletions",
    "cleanup_user_sessions": "cleanup-user-sessions",
    "warn_inactive_users": "warn-inactive-users",
    "mark_inactive_users": "mark-inactive-users",
    "mark_never_completed_accounts": "mark-never-completed-accounts",
    "export_user_data": "export-user-data",
    "relay_user_exports": "relay-user-exports",
    "remove_expired_exports": "remove-expired-exports",
    "audit_letter_files": "audit-letter-files",
    "purge_account_records": "purge-account-records",
    "archive_history": "archive-history",
    "verify_archives": "verify-archives",
    "dispatch_policies": "dispatch-policies",
    "sweep_policy": "sweep-policy",
}

# In a process of its own: tasks are bound to their configuration once, when they are first looked at.
DESCRIBE = """
import json
from importlib import import_module
from app.celery import celery, schedule
found = {}
for name, task in [pair for module in schedule.TASK_MODULES for pair in vars(import_module(module)).items()]:
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
    assert {queues.pop("dispatch-retention"), queues.pop("catch-up-missed-night")} == {"retention-periodic"}
    of_accounts = {name for name, queue in queues.items() if queue == "retention-accounts"}
    assert of_accounts == {
        *schedule.DELETIONS,
        *schedule.SWEEPS,
        *schedule.EXPORTS,
        "cleanup-user-sessions",
        "audit-letter-files",
        "archive-history",
        "verify-archives",
        *schedule.POLICIES,
    }
    assert {queue for name, queue in queues.items() if name not in of_accounts} == {"retention-nightly"}


def test_the_sweeps_over_users_run_daily_and_say_so():
    made = configured(QUEUE_ACCOUNTS="a")
    for name in schedule.SWEEPS:
        entry = made["beat_schedule"][name]
        assert (entry["task"], entry["schedule"]) == (name, crontab(hour=3, minute=0))
        assert entry["options"]["queue"] == "a"
        assert entry["options"]["headers"] == {INTERVAL: 24 * 3600}


@pytest.mark.parametrize(("every", "is_sent"), [("7", True), ("0", False)])
def test_whether_an_audit_is_due_is_looked_at_every_day_unless_there_are_none(every, is_sent):
    looking = configured(AUDIT_EVERY_DAYS=every)["beat_schedule"].get("audit")
    assert (looking is not None) == is_sent
    if looking:
        assert (looking["task"], looking["schedule"]) == ("audit-letter-files", crontab(hour=10, minute=17))
        assert looking["options"]["queue"] == "retention-accounts"


def test_without_accounts_nothing_is_sent_for_them():
    assert not set(schedule.SWEEPS) & set(configured(ACCOUNTS_ENABLED="false")["beat_schedule"])


def test_queues_are_named_by_settings_and_no_other_is_made_by_a_typing_error():
    made = configured(QUEUE_NIGHTLY="n", QUEUE_PERIODIC="p", QUEUE_ACCOUNTS="a")
    bound = [(queue.name, queue.exchange.name, queue.routing_key) for queue in made["task_queues"]]
    assert bound == [("n", "n", "n"), ("p", "p", "p"), ("a", "a", "a")]
    assert (made["task_default_queue"], made["task_create_missing_queues"]) == ("n", False)
    assert made["beat_schedule"]["dispatcher"]["options"]["queue"] == "p"
    assert made["beat_schedule"]["nightly"]["options"]["queue"] == "n"


def test_no_message_expires_by_the_clocks_of_two_hosts():
    entries = configured(ACCOUNTS_ENABLED="true", SESSIONS_ENABLED="true")["beat_schedule"].values()
    assert len(entries) > 5
    assert not any("expires" in entry["options"] for entry in entries)


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
    assert night["kwargs"] == {"once": True}, "of two beats one begins it"
    assert (made["timezone"], made["enable_utc"]) == (zone, True)
    assert (dispatcher["task"], dispatcher["schedule"]) == ("dispatch-retention", 60)
    assert dispatcher["options"]["headers"] == {INTERVAL: 60}


@pytest.mark.parametrize("enabled", [True, False])
def test_sessions_are_cleaned_every_hour_unless_that_is_switched_off(enabled):
    cleaning = configured(SESSIONS_ENABLED=str(enabled))["beat_schedule"].get("sessions")
    if not enabled:
        assert cleaning is None
        return
    assert (cleaning["task"], cleaning["schedule"]) == ("cleanup-user-sessions", crontab(minute=13))
    assert cleaning["options"]["headers"] == {INTERVAL: 3600}
    assert cleaning["options"]["queue"] == "retention-accounts"


@pytest.mark.parametrize(
    ("name", "task", "minute"),
    [("expired-exports", "remove-expired-exports", 33), ("account-records", "purge-account-records", 53)],
)
def test_what_is_hourly_for_accounts_goes_by_the_clock_and_not_since_beat_started(name, task, minute):
    entry = configured(QUEUE_ACCOUNTS="a")["beat_schedule"][name]
    assert (entry["task"], entry["schedule"]) == (task, crontab(minute=minute))
    assert entry["options"] == {"queue": "a", "headers": {INTERVAL: 3600}}
    assert name not in configured(ACCOUNTS_ENABLED="false")["beat_schedule"]


@pytest.mark.parametrize("enabled", [True, False])
def test_the_relay_of_deletions_looks_as_often_as_the_dispatcher_unless_accounts_are_off(enabled):
    relay = configured(ACCOUNTS_ENABLED=str(enabled))["beat_schedule"].get("deletions")
    if not enabled:
        assert relay is None
        return
    assert (relay["task"], relay["schedule"]) == ("relay-user-deletions", 60)
    assert relay["options"]["headers"] == {INTERVAL: 60}
    assert relay["options"]["queue"] == "retention-accounts"


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
        *(
            (
                f"{scheme}://broker/0",
                {
                    "visibility_timeout": 777,
                    "unacked_restore_interval": 2,
                    "unacked_restore_throttle": 1,
                    "unacked_mutex_expire": 10,
                    "socket_timeout": 10,
                    "socket_connect_timeout": 10,
                },
            )
            for scheme in ("redis", "rediss")
        ),
        (
            "sqs://",
            {
                "visibility_timeout": 777,
                "region": "eu-west-1",
                "is_secure": True,
                "client-config": {"connect_timeout": 10, "read_timeout": 10, "retries": {"total_max_attempts": 2}},
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
    ("broker", "arguments"),
    [
        ("redis://broker/0", None),
        ("sqs://", None),
        ("amqp://broker//", {"x-queue-type": "quorum", "x-delivery-limit": 20}),
        ("amqps://broker//", {"x-queue-type": "quorum", "x-delivery-limit": 20}),
    ],
)
def test_rabbitmq_keeps_its_queues_on_several_nodes_and_drops_what_nobody_survives(broker, arguments):
    made = configured(CELERY_BROKER_URL=broker)
    assert [queue.queue_arguments for queue in made["task_queues"]] == [arguments] * 3
    assert all(queue.durable for queue in made["task_queues"])
    assert made["worker_enable_remote_control"] is False, "whoever writes to the broker would steer workers"


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


@pytest.mark.parametrize(
    ("pool", "concurrency", "is_refused"),
    [("threads", 11, True), ("threads", 10, False), ("prefork", 60, False), ("solo", 11, False)],
)
def test_a_worker_with_more_threads_than_connections_is_refused_with_a_sentence(pool, concurrency, is_refused):
    """Seen to fail: with one connection less, and with one more."""
    worker = SimpleNamespace(pool_cls=pool, concurrency=concurrency)
    if not is_refused:
        refuse_more_threads_than_connections(worker)
        return
    with pytest.raises(SystemExit, match=r"^Error: 11 threads share the 10 database connections .* --concurrency=10"):
        refuse_more_threads_than_connections(worker)
