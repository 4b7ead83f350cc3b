"""The ordinary part of a seed: services of very different sizes, and what they send on any day."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from uuid import UUID

from dev.seed_model import Row, Service

TYPES = ("email", "sms", "letter")
RETENTIONS = (3, 5, 14, 30, 90)
OVERDUE_SHARE = 0.65
OVERDUE_DAYS = 12  # a backlog: most nights one day is due, here it is a good many
NO_FILE_SHARE = 0.005  # far below the fifth at which the pipeline doubts its own settings

KEY_TYPES, KEY_SHARES = ("normal", "team", "test"), (92, 4, 4)
POSTAGES, POSTAGE_SHARES = ("second", "first", "economy", "europe", "rest-of-world"), (70, 20, 4, 3, 3)
MESSAGE_STATUSES = {"delivered": 88, "permanent-failure": 4, "temporary-failure": 3, "technical-failure": 1}
MESSAGE_STATUSES |= {"sending": 2, "created": 1, "pending": 1}
LETTER_STATUSES = {"delivered": 87, "returned-letter": 2, "cancelled": 1, "permanent-failure": 1}
LETTER_STATUSES |= {"validation-failed": 2, "virus-scan-failed": 1, "technical-failure": 1}
LETTER_STATUSES |= {"sending": 2, "created": 2, "pending-virus-check": 1}


@dataclass
class Source:
    """Where everything random comes from, so that the same seed number makes the same data."""

    random: random.Random
    now: datetime
    made: int = 0

    def uuid(self) -> UUID:
        return UUID(int=self.random.getrandbits(128), version=4)

    def reference(self) -> str:
        """Of one width, so that by chance none is the beginning of another."""
        return f"{self.random.getrandbits(64):016X}"

    def number(self) -> int:
        """Never the same one twice: it makes recipients distinct."""
        self.made += 1
        return self.made

    def one_of(self, shares: dict[str, int]) -> str:
        return self.random.choices(tuple(shares), tuple(shares.values()))[0]

    def instant(self, days: int) -> datetime:
        """An instant in the past: for most rows more than `days` and a day ago, for some less."""
        if self.random.random() < OVERDUE_SHARE:
            age = days + 1 + self.random.random() * OVERDUE_DAYS
        else:
            age = self.random.random() * days
        return self.now - timedelta(days=age, minutes=1)


def services(source: Source, count: int) -> list[Service]:
    """The largest first. About half of the retentions are the service's own; the last service is closed."""
    made = []
    for number in range(1, count + 1):
        own = {kind: source.random.choice(RETENTIONS) for kind in TYPES if source.random.random() < 0.5}
        since = source.now - timedelta(days=900 - number)
        made.append(Service(source.uuid(), f"Service {number:03}", since, active=number < count, days=own))
    made[0].days.clear()  # the largest keeps the default, so that it has a backlog worth slicing
    return made


def messages(source: Source, senders: list[Service], count: int) -> Iterator[Row]:
    for kind, sender in _draw(source, senders, count, {"email": 60, "sms": 40}):
        yield message(source, sender, kind, source.instant(sender.days_of(kind)))


def letters(source: Source, senders: list[Service], count: int) -> Iterator[tuple[Row, bool]]:
    """Letters, each with whether it has a file."""
    for kind, sender in _draw(source, senders, count, {"letter": 1}):
        row = letter(source, sender, source.instant(sender.days_of(kind)))
        yield row, source.random.random() >= NO_FILE_SHARE


def message(source: Source, sender: Service, kind: str, created_at: datetime) -> Row:
    """One email or text message, with a recipient of its own."""
    number = source.number()
    row = _row(source, sender, kind, created_at, number)
    row.notification_status = source.one_of(MESSAGE_STATUSES)
    row.sent_by = {"email": "ses", "sms": "mmg"}[kind]
    row.reference = str(source.uuid())
    if kind == "email":
        row.to = row.normalised_to = f"user{number}@example.test"
        row.reply_to_text = f"reply{number}@example.test"
        row.unsubscribe_link = f"https://example.test/unsubscribe/{number}"
    else:
        row.to, row.normalised_to = f"+447700900{number % 1000:03}", f"447700900{number % 1000:03}"
        row.phone_prefix, row.rate_multiplier = "44", 1
    return row


def letter(source: Source, sender: Service, created_at: datetime) -> Row:
    """One letter, delivered or not."""
    number = source.number()
    row = _row(source, sender, "letter", created_at, number)
    row.to = f"Alex Seedperson{number}\n{number} Example Street\nSW1A 1AA"
    row.normalised_to = f"alexseedperson{number}"
    row.notification_status = source.one_of(LETTER_STATUSES)
    row.postage = source.random.choices(POSTAGES, POSTAGE_SHARES)[0]
    row.reference = source.reference()
    row.sent_by = "dvla"
    if row.key_type == "test":
        row.notification_status = "delivered"
    return row


def history(source: Source, senders: list[Service], count: int) -> Iterator[Row]:
    """What earlier nights have moved."""
    for kind, sender in _draw(source, senders, count, {"email": 55, "sms": 40, "letter": 5}):
        age = timedelta(days=120 + source.random.random() * 200)
        make = letter(source, sender, source.now - age) if kind == "letter" else None
        row = make or message(source, sender, kind, source.now - age)
        row.key_type = "normal"
        yield row


def _draw(source: Source, senders: list[Service], count: int, kinds: dict[str, int]) -> Iterator[tuple[str, Service]]:
    """By Zipf's law: the second service sends half as much as the first, the third a third."""
    weights = list(accumulate(1 / rank for rank in range(1, len(senders) + 1)))
    for sender in source.random.choices(senders, cum_weights=weights, k=count):
        yield source.one_of(kinds), sender


def _row(source: Source, sender: Service, kind: str, created_at: datetime, number: int) -> Row:
    return Row(
        id=source.uuid(),
        notification_type=kind,
        service_id=sender.id,
        created_at=created_at,
        template_id=UUID(int=sender.id.int ^ TYPES.index(kind)),
        key_type=source.random.choices(KEY_TYPES, KEY_SHARES)[0],
        sent_at=created_at + timedelta(seconds=5),
        updated_at=created_at + timedelta(minutes=source.random.random() * 90),
        client_reference=f"order-{number}",
        personalisation=json.dumps({"name": f"Alex Seedperson{number}", "code": f"{number:06}"}),
        api_key_id=sender.id,
    )
