"""An independent look at accounts and sessions: plain SQL, the catalogue, S3's listing and what the SES server got."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field

import boto3
from psycopg2 import extensions, sql

from dev.s3 import SentEmail
from dev.seed_accounts import Person

RECORDS = {"user_deletions", "user_exports"}
"""They outlive the user, and hold an id only."""

ID_COLUMNS = """
SELECT table_name, column_name FROM information_schema.columns
JOIN information_schema.tables USING (table_schema, table_name)
WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND data_type = 'uuid'
"""
DEAD_SESSIONS = """
SELECT count(*) FROM user_sessions
WHERE expires_at <= clock_timestamp() OR (user_id IS NULL AND created_at <= clock_timestamp() - interval '24 hours')
"""
FATES = """
SELECT users.id, CASE WHEN user_deletions.state = 'blocked' THEN 'blocked'
                     WHEN deletion_warning_sent_at IS NULL THEN 'stays' ELSE 'warned' END
FROM users LEFT JOIN user_deletions ON user_deletions.user_id = users.id
WHERE users.id = ANY (%s::uuid[])
"""
FAILED_WARNING = "SELECT count(*) FROM users WHERE id = %s AND deletion_warning_failure IS NOT NULL"
BLOCKED = "SELECT count(*) FROM user_deletions WHERE user_id = %s AND reason LIKE 'Nobody else can manage%%'"
MALFORMED = "SELECT count(*) FROM malformed_flags WHERE user_id = %s"
UNCONFIRMED = "SELECT count(*) FROM user_deletions WHERE confirmation_address IS NOT NULL AND state <> 'blocked'"
EXPORTS_UNDER_WAY = "SELECT count(*) FROM user_exports WHERE emailed_at IS NULL"


@dataclass
class Found:
    """What became of the people. All is well when `wrong` is empty."""

    fates: dict[Person, str] = field(default_factory=dict)
    subjects: dict[Person, list[str]] = field(default_factory=dict)
    sessions_left: int = 0
    wrong: list[str] = field(default_factory=list)


def left(cursor: "extensions.cursor", people: list[Person]) -> dict[str, int]:
    """What is still to be done, by what it is; empty when it is over."""
    fates = _fates(cursor, people)
    counts = {
        "accounts to delete": sum(person.fate == "deleted" != fates[person] for person in people),
        "accounts to block": sum(person.fate == "blocked" != fates[person] for person in people),
        "users to warn": sum(person.fate == "warned" != fates[person] for person in people),
        "warnings to be refused": sum(
            not _number(cursor, FAILED_WARNING, str(person.id)) for person in people if person.is_unreachable
        ),
        "dead sessions": _number(cursor, DEAD_SESSIONS),
        "confirmations to send": _number(cursor, UNCONFIRMED),
        "exports to send": _number(cursor, EXPORTS_UNDER_WAY),
    }
    return {what: count for what, count in counts.items() if count}


def verify(
    cursor: "extensions.cursor", people: list[Person], sent: list[SentEmail], environment: Mapping[str, str]
) -> Found:
    """Compare the world with what should have become of each."""
    found = Found(_fates(cursor, people))
    for person in people:
        found.subjects[person] = [email.subject for email in sent if email.to == person.email_address]
        found.wrong += [f"{person.case}: {problem}" for problem in _problems(cursor, person, found, environment)]
    found.sessions_left = _number(cursor, "SELECT count(*) FROM user_sessions")
    found.wrong += [f"{count:,} {what} left" for what, count in left(cursor, people).items()]
    return found


def _problems(cursor: "extensions.cursor", person: Person, found: Found, environment: Mapping[str, str]) -> list[str]:
    problems = []
    if found.fates[person] != person.fate:
        problems.append(f"{found.fates[person]}, not {person.fate}")
    if person.fate == "deleted":
        problems += [f"still named in {place}" for place in _mentions(cursor, person)]
    due = 0 if person.is_unreachable else {"deleted": 1, "warned": 1}.get(person.fate, 0) + ("export" in person.asks)
    if len(found.subjects[person]) != due:
        problems.append(f"{len(found.subjects[person])} emails, not {due}")
    if "export" in person.asks and not _exports(cursor, person, environment):
        problems.append("no export lies in its bucket")
    problems += [what for what, asked in _expected(person).items() if not _number(cursor, asked, str(person.id))]
    return problems


def _expected(person: Person) -> dict[str, str]:
    """What must be on record of the person, beside the fate: the problem if it is not, and how it is counted."""
    asked = {}
    if person.is_unreachable:
        asked["no failure of the warning on record"] = FAILED_WARNING
    if person.fate == "blocked":
        asked["no reason on record"] = BLOCKED
    if isinstance(person.columns.get("flags"), str):
        asked["its flags were not noticed"] = MALFORMED
    return asked


def _fates(cursor: "extensions.cursor", people: list[Person]) -> dict[Person, str]:
    ids = [str(person.id) for person in people]
    cursor.execute(
        FATES,
        (ids,),
    )
    there = dict(cursor.fetchall())
    warned_before = {str(person.id) for person in people if "deletion_warning_sent_at" in person.columns}
    return {
        person: "stays"
        if str(person.id) in warned_before and str(person.id) in there
        else there.get(str(person.id), "deleted")
        for person in people
    }


def _mentions(cursor: "extensions.cursor", person: Person) -> list[str]:
    """Every column of the database in which the person's id still is, records apart."""
    cursor.execute(ID_COLUMNS)
    places = []
    for table, column in cursor.fetchall():
        if table not in RECORDS:
            asked = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} = %s)").format(
                sql.Identifier(table), sql.Identifier(column)
            )
            cursor.execute(asked, (str(person.id),))
            places += [f"{table}.{column}"] * cursor.fetchone()[0]
    cursor.execute("SELECT count(*) FROM leader_boards WHERE entries::text LIKE %s", (f"%{person.id}%",))
    return places + ["leader_boards.entries"] * cursor.fetchone()[0]


def _exports(cursor: "extensions.cursor", person: Person, environment: Mapping[str, str]) -> int:
    """How many objects of the person's exports there are."""
    cursor.execute("SELECT object_key FROM user_exports WHERE user_id = %s AND state = 'ready'", (str(person.id),))
    keys = {row[0] for row in cursor.fetchall()}
    with closing(boto3.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL_S3"])) as s3:
        listed = s3.list_objects_v2(Bucket=environment["S3_BUCKET_EXPORTS"]).get("Contents", [])
    return len(keys & {one["Key"] for one in listed})


def _number(cursor: "extensions.cursor", statement: str, *values: str) -> int:
    cursor.execute(statement, values)
    return int(cursor.fetchone()[0])
