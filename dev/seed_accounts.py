"""Users of every kind that the clean-ups of accounts must tell apart, with what must become of each.

Written with plain SQL into a migrated database, without `app.accounts`: a mistake there must not make a seed that
agrees with it.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid5

from psycopg2 import extensions, extras

Fate = Literal["stays", "warned", "deleted", "blocked"]

NAMESPACE = UUID("6f1c2f7e-3b1d-4c55-9d10-2b6a0c1d7f11")
ACTIVE = {"state": "active"}
BY_SQL: Literal["deletion by SQL"] = "deletion by SQL"


@dataclass(frozen=True, eq=False)
class Person:
    """A seeded user. `asks` is what the person, or an operator, does while the demo runs.

    SES refuses every email to one with `is_unreachable`.
    """

    case: str
    fate: Fate
    columns: dict[str, Any] = field(default_factory=dict)
    asks: Literal["", "deletion", "export and deletion", "deletion by SQL"] = ""
    items: int = 0
    only_manager: bool = False
    is_unreachable: bool = False

    @property
    def id(self) -> UUID:
        return uuid5(NAMESPACE, self.case)

    @property
    def email_address(self) -> str:
        return f"{self.id.hex}@" if self.is_unreachable else f"{self.id.hex}@people.example.test"

    @property
    def seen_at(self) -> datetime:
        """What the person did last, such as signing in, is no newer than the last visit."""
        last: datetime = self.columns.get("last_visit_at") or self.columns["created_at"]
        return last

    @property
    def token(self) -> str:
        return uuid5(NAMESPACE, f"session of {self.case}").hex


def cast(now: datetime) -> list[Person]:
    """The users, in the order in which the demo lists them. `now` is aware."""

    def ago(days: float) -> datetime:
        return now - timedelta(days=days)

    def away(days: float, **more: Any) -> dict[str, Any]:
        return ACTIVE | {"created_at": ago(400), "last_visit_at": ago(days)} | more

    return [
        Person("visited yesterday", "stays", away(1)),
        Person("away for 59 days", "stays", away(59)),
        Person("away for 61 days", "warned", away(61)),
        Person("away for 120 days, never warned", "warned", away(120)),
        Person("away for 95 days, warned 10 days ago", "stays", away(95, deletion_warning_sent_at=ago(10))),
        Person("away for 95 days, warned 35 days ago", "deleted", away(95, deletion_warning_sent_at=ago(35)), items=40),
        Person("never visited, made 95 days ago, warned 35 days ago", "deleted", _never_seen(ago)),
        Person("away for 300 days, in a free trial", "stays", away(300, free_trial_end=now + timedelta(days=5))),
        Person("away for 300 days, with a lifetime deal", "stays", away(300, lifetime_deal=True)),
        Person("away for 300 days, with a subscription", "stays", away(300, subscription={"status": "active"})),
        Person("never completed, 40 days old", "deleted", {"state": "pending", "created_at": ago(40)}),
        Person("never completed, 3 days old", "stays", {"state": "pending", "created_at": ago(3)}),
        Person("asks to be deleted, 30 items", "deleted", away(0.1), "deletion", items=30),
        Person("asks to be deleted, 6,000 items", "deleted", away(0.1), "deletion", items=6_000),
        Person("asks for an export, then to be deleted", "deleted", away(0.1), "export and deletion", items=200),
        Person("asks, the only manager of a live service", "stays", away(0.1), "deletion", only_manager=True),
        Person("marked by SQL, flags kept as a JSON string", "deleted", away(0.1), BY_SQL, items=500),
        Person("marked by SQL, the only manager of a live service", "blocked", away(0.1), BY_SQL, only_manager=True),
        Person("away for 300 days, flags that can't be read", "stays", away(300, flags="{no object")),
        Person("away for 61 days, its address failed before", "stays", _failed(away, ago), is_unreachable=True),
    ]


def _failed(away: Any, ago: Any) -> dict[str, Any]:
    """The next failure is the last one: INACTIVE_WARNING_ATTEMPTS is 5."""
    return away(61, deletion_warning_attempts=4, deletion_warning_due_at=ago(0.5))


def _never_seen(ago: Any) -> dict[str, Any]:
    return ACTIVE | {"created_at": ago(95), "deletion_warning_sent_at": ago(35)}


def seed_accounts(
    connection: "extensions.connection", people: list[Person], now: datetime, *, dead_sessions: int
) -> None:
    """Write the people with what they own, and sessions of which `dead_sessions` are dead."""
    with connection.cursor() as cursor:
        service = _service(cursor, "Service of the accounts", now)
        for person in people:
            _user(cursor, person, now)
            items = {"user": str(person.id), "service": service, "now": person.seen_at}
            items["items"] = person.items // len(OWNED)
            for statement in OWNED:
                cursor.execute(statement, items)
            if person.only_manager:
                owned = _service(cursor, f"Service of one who is: {person.case}", now)
                cursor.execute(MANAGER, items | {"service": owned})
        cursor.execute(BOARD, {"entries": extras.Json([{"user_id": str(person.id), "sent": 1} for person in people])})
        cursor.execute(DEAD_SESSIONS, {"count": dead_sessions, "now": now})
        cursor.execute("ANALYZE users, user_sessions, templates, login_events, events, user_deletions")
    connection.commit()


def _service(cursor: "extensions.cursor", name: str, now: datetime) -> str:
    service = str(uuid5(NAMESPACE, name))
    cursor.execute(SERVICE, {"id": service, "name": name, "now": now.replace(tzinfo=None)})
    return service


def _user(cursor: "extensions.cursor", person: Person, now: datetime) -> None:
    columns: dict[str, Any] = {
        "last_visit_at": None,
        "deletion_warning_sent_at": None,
        "free_trial_end": None,
        "lifetime_deal": False,
    }
    columns |= {"subscription": None, "created_at": now, "flags": {}} | person.columns
    columns = {"deletion_warning_attempts": 0, "deletion_warning_due_at": None} | columns
    tried = columns["deletion_warning_sent_at"] or columns["deletion_warning_attempts"]
    columns["deletion_warning_address"] = person.email_address if tried else None
    columns["subscription"] = extras.Json(columns["subscription"]) if columns["subscription"] else None
    columns["flags"] = extras.Json(columns["flags"])
    cursor.execute(USER, columns | {"id": str(person.id), "email_address": person.email_address})
    token_hash = hashlib.sha256(person.token.encode()).digest()
    cursor.execute(
        SESSION,
        {"token_hash": token_hash, "user": str(person.id), "now": person.seen_at, "expires": now + timedelta(days=20)},
    )


SERVICE = "INSERT INTO services (id, name, created_at) VALUES (%(id)s, %(name)s, %(now)s)"
USER = """
INSERT INTO users (id, name, email_address, state, created_at, last_visit_at, deletion_warning_sent_at,
                   free_trial_end, lifetime_deal, subscription, flags, deletion_warning_attempts,
                   deletion_warning_due_at, deletion_warning_address)
VALUES (%(id)s, 'Ottilie Example', %(email_address)s, %(state)s, %(created_at)s, %(last_visit_at)s,
        %(deletion_warning_sent_at)s, %(free_trial_end)s, %(lifetime_deal)s, %(subscription)s, %(flags)s,
        %(deletion_warning_attempts)s, %(deletion_warning_due_at)s, %(deletion_warning_address)s)
"""
SESSION = """
INSERT INTO user_sessions (id, token_hash, user_id, created_at, expires_at)
VALUES (gen_random_uuid(), %(token_hash)s, %(user)s, %(now)s, %(expires)s)
"""
# A fifth of what a person owns is of each kind: some goes with the account, some is given to the ghost user.
OWNED = (
    """
    INSERT INTO login_events (id, user_id, data, created_at)
    SELECT gen_random_uuid(), %(user)s, '{}', %(now)s FROM generate_series(1, %(items)s)
    """,
    """
    INSERT INTO verify_codes (id, user_id, code_hash, expires_at)
    SELECT gen_random_uuid(), %(user)s, 'hash', %(now)s FROM generate_series(1, %(items)s)
    """,
    """
    INSERT INTO templates (id, service_id, name, content, created_by_id, created_at)
    SELECT gen_random_uuid(), %(service)s, 'Template', 'Text', %(user)s, %(now)s FROM generate_series(1, %(items)s)
    """,
    """
    INSERT INTO events (id, event_type, service_id, created_by_id, created_at)
    SELECT gen_random_uuid(), 'login', %(service)s, %(user)s, %(now)s FROM generate_series(1, %(items)s)
    """,
    """
    INSERT INTO notification_history (id, service_id, template_id, template_version, key_type, notification_type,
                                      created_at, created_by_id)
    SELECT gen_random_uuid(), %(service)s, gen_random_uuid(), 1, 'normal', 'email',
           %(now)s::timestamptz AT TIME ZONE 'UTC', %(user)s
    FROM generate_series(1, %(items)s)
    """,
)
MANAGER = """
INSERT INTO permissions (id, service_id, user_id, permission, created_at)
VALUES (gen_random_uuid(), %(service)s, %(user)s, 'manage_service', %(now)s)
"""
BOARD = "INSERT INTO leader_boards (id, month, entries) VALUES (gen_random_uuid(), '2026-01', %(entries)s)"
# Half of them have expired, half are anonymous and old.
DEAD_SESSIONS = """
INSERT INTO user_sessions (id, token_hash, created_at, expires_at)
SELECT gen_random_uuid(), sha256(number::text::bytea), %(now)s::timestamptz - interval '2 days',
       %(now)s::timestamptz + CASE number %% 2 WHEN 0 THEN interval '5 days' ELSE interval '-1 second' END
FROM generate_series(1, %(count)s) AS number
"""
