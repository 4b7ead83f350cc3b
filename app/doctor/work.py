"""What does the work: the broker, beat, the workers, and who sends emails."""

from collections.abc import Iterator
from email.utils import parseaddr
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy.exc import SQLAlchemyError

from app import broker
from app.broker import BrokerAway
from app.broker.transports import BrokerTakesNothing
from app.config import Settings
from app.dao import letter_statuses
from app.db import db
from app.doctor.finding import Finding, error, ok, warning
from app.retention import facts, overdue
from app.state.judgement import Severity

BROKER, BEAT, EMAIL = "broker", "beat and workers", "email sender"
SWEEPS, STATUSES, STATE = "sweeps over users", "letters' statuses", "state"
CHECK_OF = {"no-worker": BEAT, "dispatcher-silent": BEAT, "user-sweep-stopped": SWEEPS}
"""Under which check a state is told; else under STATE."""
WELL = {
    BEAT: "Beat's relays ran lately, and workers are there.",
    SWEEPS: "No sweep over users is blocked.",
    STATE: "Nothing else is judged to need anybody.",
}
SECONDS_TO_MEASURE = 20.0
SERVICES_TO_ASK, LETTERS_TO_ASK = 20, 5_000
SECONDS_TO_ANSWER = 3


def broker_answers(settings: Settings) -> Iterator[Finding]:
    """Whether the broker answers, and keeps messages as it must."""
    try:
        depths = broker.queue_depths(settings, SECONDS_TO_ANSWER)
        broker.takes_messages(settings, SECONDS_TO_ANSWER)
    except BrokerTakesNothing as blocked:
        yield error(BROKER, str(blocked), 'Give RabbitMQ memory or disk: docs/operations.md, "The broker refuses".')
        return
    except BrokerAway as away:
        yield error(BROKER, f"The broker does not answer ({away}).", "Check CELERY_BROKER_URL, and that it runs.")
        return
    found: list[Finding] = []
    if broker.kind(settings) == "redis":
        found = [*_redis(settings)]
    elif broker.kind(settings) == "sqs":
        found = [*_sqs(settings)]
    yield from found or [ok(BROKER, f"It answers; {sum(depths.values())} messages wait.")]


def _redis(settings: Settings) -> Iterator[Finding]:
    import redis  # with it comes OpenTelemetry, which a process need not hold because it could be examined

    tls = broker.tls(settings) or {}
    with redis.Redis.from_url(
        settings.celery_broker_url, socket_timeout=SECONDS_TO_ANSWER, decode_responses=True, **tls
    ) as client:
        try:
            policy: Any = client.config_get("maxmemory-policy")
            kept: Any = client.config_get("appendonly") | client.config_get("save")
        except redis.RedisError:
            return  # a managed one that does not say
    if policy.get("maxmemory-policy") != "noeviction":
        yield error(
            BROKER,
            f"maxmemory-policy is {policy.get('maxmemory-policy')}: when memory is short, messages are thrown away.",
            "Set maxmemory-policy to noeviction.",
        )
    if kept.get("appendonly") != "yes" and not kept.get("save"):
        yield warning(
            BROKER,
            "The broker keeps nothing on disk: a restart loses its messages, until the dispatcher sends them again.",
            "Set appendonly to yes.",
        )


def _sqs(settings: Settings) -> Iterator[Finding]:
    client = boto3.Session(region_name=settings.aws_region).client("sqs", config=_quick())
    for queue in settings.queues:
        try:
            url = client.get_queue_url(QueueName=queue)["QueueUrl"]
            got = client.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])
        except (ClientError, BotoCoreError) as problem:
            yield warning(BROKER, f"The queue {queue} can't be asked ({_code(problem)}).", "Allow sqs:GetQueue*.")
            continue
        seconds = int(got["Attributes"]["VisibilityTimeout"])
        if seconds <= settings.task_time_limit_seconds:
            yield error(
                BROKER,
                f"The queue {queue} hands a message out again after {seconds} s, while its task may still run.",
                f"Set its visibility time-out to {settings.visibility_timeout_seconds} s.",
            )


def judged(_settings: Settings) -> Iterator[Finding]:
    """What the ops page and `flask retention overdue` say, each under the check that it belongs to."""
    measured, why_not = None, None
    try:
        measured = overdue.measure(SECONDS_TO_MEASURE)
    except SQLAlchemyError as problem:
        why_not = f"the database says {type(getattr(problem, 'orig', None) or problem).__name__}"
    found = facts.judgement_now(measured, why_not)
    for one in found.verdicts:
        say = error if one.severity is Severity.ACT else warning
        yield say(CHECK_OF.get(one.state, STATE), one.sentence, one.do)
    of = {CHECK_OF.get(one.state, STATE) for one in found.verdicts}
    for check, says in WELL.items():
        if check not in of:
            yield ok(check, says)


def letters_statuses(settings: Settings) -> Iterator[Finding]:
    """Whether letters past their retention stay in a status that nobody has named."""
    kept = [one for one in overdue.measure(SECONDS_TO_MEASURE).kept if one.kind == overdue.UNKNOWN_STATUS]
    words: set[str | None] = set()
    with db.transaction(read_only=True) as connection:
        for one in kept[:SERVICES_TO_ASK]:
            if one.service_id is not None:
                of_service = letter_statuses.unknown(
                    connection, letter_statuses.of(settings), one.service_id, LETTERS_TO_ASK
                )
                words |= of_service
    if kept:
        named = ", ".join(sorted("none at all" if word is None else word for word in words)) or "not among the oldest"
        yield warning(
            STATUSES,
            f"Letters of {len(kept)} services stay past their retention in a status that nobody has named: {named}.",
            "Name it in LETTER_STATUSES_FINAL if it is a letter's last, else in LETTER_STATUSES_UNFINISHED.",
        )
    else:
        yield ok(STATUSES, "No letter past its retention is in a status that nobody has named.")


def email_sender(settings: Settings) -> Iterator[Finding]:
    """Whether SES has verified the sender's address, or its domain."""
    if not settings.accounts_enabled:
        return
    session = boto3.Session(region_name=settings.aws_region)
    client = session.client("sesv2", endpoint_url=settings.aws_endpoint_url_sesv2, config=_quick())
    refused = []
    address = parseaddr(settings.email_sender)[1]
    for identity in (address, address.rpartition("@")[2]):
        try:
            if client.get_email_identity(EmailIdentity=identity).get("VerifiedForSendingStatus"):
                yield ok(EMAIL, f"SES has verified {identity}.")
                return
        except (ClientError, BotoCoreError) as problem:
            refused.append(_code(problem))
    if set(refused) <= {"NotFoundException"}:
        yield error(
            EMAIL,
            f"SES has not verified {address}, and refuses every email.",
            "Verify it or its domain.",
        )
    else:
        yield warning(
            EMAIL,
            f"SES does not say whether {address} is verified ({refused[0]}).",
            "Run this once with credentials that have ses:GetEmailIdentity.",
        )


def _quick() -> Config:
    return Config(connect_timeout=SECONDS_TO_ANSWER, read_timeout=SECONDS_TO_ANSWER, retries={"total_max_attempts": 1})


def _code(problem: ClientError | BotoCoreError) -> str:
    if isinstance(problem, ClientError):
        return str(problem.response.get("Error", {}).get("Code") or "Unknown")
    return type(problem).__name__
