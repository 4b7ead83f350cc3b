"""Tables that no code of the product knows, and policies for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from flask import Flask
from sqlalchemy import Connection, text

from app.dao import policy_sweeps_dao
from app.db import db
from app.policies import checks, registry, sweeps
from app.policies.binding import Bound
from tests.factories import days_ago, naive

TABLES = """
CREATE TABLE parcel_kinds (id uuid PRIMARY KEY, template_type text, hidden boolean, listed_at timestamp);
CREATE TYPE parcel_states AS ENUM ('packed', 'sent', 'gone');
CREATE TABLE parcels (
    id uuid PRIMARY KEY, service_id uuid REFERENCES services (id), kind_id uuid REFERENCES parcel_kinds (id),
    sender_id uuid REFERENCES users (id), parent_id uuid REFERENCES parcels (id), created_at timestamp,
    sent_at timestamp, seen_on date, archived boolean NOT NULL DEFAULT false,
    state parcel_states NOT NULL DEFAULT 'packed',
    weight integer, address text, note jsonb
);
CREATE INDEX ON parcels (created_at);
CREATE TABLE parcels_history (id uuid PRIMARY KEY, service_id uuid, kind_id uuid, created_at timestamp, moved text);
CREATE TABLE parcel_strict (id uuid PRIMARY KEY, created_at timestamp, price integer NOT NULL);
CREATE TABLE parcel_odd (id uuid PRIMARY KEY, created_at timestamp, note date);
CREATE TABLE parcel_marks (id uuid PRIMARY KEY, parcel_id uuid REFERENCES parcels (id));
CREATE TABLE parcel_parts (a integer, b integer, created_at timestamp, PRIMARY KEY (a, b));
CREATE TABLE boxes (id integer PRIMARY KEY, created_at timestamptz);
CREATE TABLE box_lids (id integer PRIMARY KEY, box_id integer REFERENCES boxes (id) ON DELETE CASCADE);
CREATE VIEW parcel_view AS SELECT * FROM parcels;
"""
NAMES = "box_lids, boxes, parcel_marks, parcels, parcels_history, parcel_strict, parcel_odd, parcel_kinds, parcel_parts"

MOVED = """
[parcels]
table = "parcels"
age = "created_at"
retention = { days = 7 }
then = { move = "parcels_history" }
"""


# What a login was granted on other tables would hide from later tests that its group lacks it.
TAKE_BACK = """
DO $$
DECLARE
    of record;
BEGIN
    FOR of IN SELECT DISTINCT grantee FROM information_schema.column_privileges WHERE grantee LIKE '%login' LOOP
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA public FROM %I', of.grantee);
    END LOOP;
END $$
"""


@contextmanager
def unplanned_tables(connection: Connection) -> Iterator[None]:
    """The tables, for as long as a test needs them."""
    connection.exec_driver_sql(TABLES)
    try:
        yield
    finally:
        connection.exec_driver_sql("DROP VIEW parcel_view")
        connection.exec_driver_sql(f"DROP TABLE {NAMES}")
        connection.exec_driver_sql("DROP TYPE parcel_states")
        connection.exec_driver_sql(TAKE_BACK.replace("%", "%%"))


def use(app: Flask, entries: str, directory: Path) -> registry.Registry:
    """Make these the application's policies, as if RETENTION_POLICIES had named a file of them when it was started."""
    path = directory / "own.toml"
    path.write_text(entries)
    app.extensions["policies"] = registry.load(str(path))
    return app.extensions["policies"]


def checked(app: Flask, name: str) -> Bound:
    """What the database says of one of the application's policies."""
    with db.transaction(read_only=True) as connection:
        [bound] = checks.check(connection, [app.extensions["policies"].policies[name]])
    return bound


def grant(connection: Connection, bound: Bound, role: str) -> None:
    """What the check says that the policy needs, and nothing else."""
    for one in bound.grants:
        connection.exec_driver_sql(one.statement(role))


def work_off(name: str, batches: int = 50) -> list[sweeps.Wake]:
    """Start a policy and do its batches until none is to be sent. Returns what was sent."""
    sent = list(sweeps.begin_now([name]))
    while sent[-1] is not None:
        wake = sweeps.run_step(*sent[-1])
        if wake is None:
            return sent
        sent.append(wake)
        assert len(sent) < batches, "it does not come to an end"
    return sent


def latest(name: str) -> policy_sweeps_dao.Latest:
    """The policy's newest sweep."""
    with db.transaction(read_only=True) as connection:
        return next(one for one in policy_sweeps_dao.latest(connection) if one.policy == name)


def steps_of(connection: Connection, name: str) -> list[dict[str, Any]]:
    """What the policy's batches did."""
    rows = connection.execute(
        text("SELECT * FROM retention.policy_steps WHERE policy = :name ORDER BY id"), {"name": name}
    )
    return [dict(row) for row in rows.mappings()]


def parcel(connection: Connection, **columns: Any) -> UUID:
    """A parcel that is 30 days old, unless said otherwise."""
    values = {"id": uuid4(), "created_at": naive(days_ago(30)), "address": "1 Private Street", **columns}
    names = ", ".join(values)
    connection.execute(
        text(f"INSERT INTO parcels ({names}) VALUES ({', '.join(f':{name}' for name in values)})"), values
    )
    return values["id"]


def ids(connection: Connection, table: str = "parcels") -> set[UUID]:
    return set(connection.exec_driver_sql(f"SELECT id FROM {table}").scalars())
