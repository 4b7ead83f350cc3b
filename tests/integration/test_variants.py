"""The variants are what is known of the platforms, so that what passes on them means something.

Seen to fail: a column left out of va-notify.sql, the order of us-notify's history made that of its notifications,
`NOT NULL` taken from govuk-notify's status, `returned-letter` put into us-notify's enum, va-notify's cascade taken
away, an index's columns swapped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Connection, Inspector, inspect

from tests.variants import ALL, OWN, database, rows

COMMON = {
    *("id", "job_id", "job_row_number", "service_id", "template_id", "template_version", "api_key_id", "key_type"),
    *("notification_type", "created_at", "sent_at", "sent_by", "updated_at", "reference", "billable_units"),
    *("client_reference", "international", "phone_prefix", "rate_multiplier", "notification_status", "created_by_id"),
}
SIX_OF_SMS = {
    *("sms_total_message_price", "sms_total_carrier_fee", "sms_iso_country_code", "sms_carrier_name"),
    *("sms_message_encoding", "sms_origination_phone_number"),
}
OF_FEEDBACK = {"feedback_type", "feedback_subtype", "feedback_reason", "ses_feedback_id", "ses_feedback_date"}
BY_TYPE, BY_SERVICE = ["service_id", "notification_type", "created_at"], ["service_id", "created_at"]
BY_STATUS = ["service_id", "notification_type", "notification_status", "created_at"]
OF_D = {"status_reason", "billing_code", "sms_sender_id", "segments_count", "cost_in_millicents", "retry_count"}


@dataclass(frozen=True)
class Facts:
    """A column of the table of differences."""

    columns: tuple[int, int]
    beyond_common: set[str]
    key_type_is_enum: bool
    status_nullable: bool
    type_enum: str
    indexes: list[list[str]]
    referring: dict[str, str | None]


FACTS = {
    OWN: Facts(
        (28, 23),
        {"postage", "document_download_count"},
        False,
        True,
        "notification_type",
        [BY_TYPE, BY_SERVICE],
        {},
    ),
    "govuk-notify": Facts(
        (28, 23), {"postage", "document_download_count"}, False, False, "notification_type", [BY_TYPE], {}
    ),
    "gc-notify": Facts(
        (39, 34),
        {"postage", "queue_name"} | OF_FEEDBACK | SIX_OF_SMS,
        False,
        True,
        "notification_type",
        [BY_SERVICE],
        {"scheduled_notifications": None},
    ),
    "us-notify": Facts(
        (31, 24),
        {"document_download_count", "carrier", "message_cost"},
        True,
        True,
        "notification_types",
        [BY_STATUS, BY_SERVICE],
        {},
    ),
    "va-notify": Facts(
        (34, 29),
        {"postage", "provider_updated_at"} | OF_D,
        False,
        True,
        "notification_type",
        [BY_SERVICE],
        {"scheduled_notifications": None, "recipient_identifiers": "CASCADE"},
    ),
}


@pytest.fixture(scope="module", params=ALL)
def named(request: pytest.FixtureRequest, environment: dict[str, str]) -> Iterator[tuple[str, Connection]]:
    """A database of each name, and an administrator's connection whose statements commit at once."""
    with (
        database(environment["DATABASE_URL"], request.param) as engine,
        engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection,
    ):
        yield request.param, connection


@pytest.fixture
def variant(named: tuple[str, Connection]) -> tuple[Facts, Inspector]:
    """What is known of the variant, and what there is."""
    name, connection = named
    return FACTS[name], inspect(connection)


def by_name(inspector: Inspector, table: str) -> dict[str, Any]:
    return {column["name"]: column for column in inspector.get_columns(table)}


def test_a_variant_has_the_columns_that_are_known(variant):
    facts, there = variant
    live, history = (by_name(there, table) for table in ("notifications", "notification_history"))
    assert (len(live), len(history)) == facts.columns
    assert set(history) == COMMON | facts.beyond_common
    assert set(history) < set(live)
    assert {"to", "normalised_to", "_personalisation"} <= set(live) - set(history)


def test_a_variant_has_the_types_that_are_known(variant):
    facts, there = variant
    live = by_name(there, "notifications")
    enums = {enum["name"]: enum["labels"] for enum in there.get_enums()}  # type: ignore[attr-defined]
    assert live["notification_type"]["type"].name == facts.type_enum
    assert live["notification_status"]["nullable"] == facts.status_nullable
    assert ("notify_statuses" in enums, "key_types" in enums) == (facts.key_type_is_enum,) * 2
    assert "returned-letter" not in enums.get("notify_statuses", [])
    for name in ("key_types", "notification_status_types"):
        assert there.has_table(name) != facts.key_type_is_enum


def test_a_variant_has_the_indexes_and_references_that_are_known(variant):
    facts, there = variant
    indexes = [index["column_names"] for index in there.get_indexes("notifications")]
    assert [columns for columns in (BY_TYPE, BY_STATUS, BY_SERVICE) if columns in indexes] == facts.indexes
    referring = {
        table: key["options"].get("ondelete")
        for table in there.get_table_names()
        for key in there.get_foreign_keys(table)
        if key["referred_table"] == "notifications"
    }
    assert referring == facts.referring


def test_a_variants_history_is_in_the_order_that_is_known(named, variant):
    name, _ = named
    _, there = variant
    live, history = (list(by_name(there, table)) for table in ("notifications", "notification_history"))
    last = [column for column in live if column in ("message_cost", "document_download_count", "carrier")]
    if name == "us-notify":
        assert [column for column in history if column in last] != last
        assert history[-3:] == ["message_cost", "document_download_count", "carrier"]


def test_the_same_factories_fill_every_variant(named, variant):
    name, connection = named
    _, there = variant
    service = rows.create_service(connection, email=3)
    types = ["email", "sms"] if name == "us-notify" else ["email", "sms", "letter"]
    ids = {rows.create_notification(connection, service, one) for one in types}
    assert rows.ids(connection, "notifications") == ids
    made = rows.row(connection, "notifications", min(ids))
    assert made is not None
    assert {column for column, value in made.items() if value is None} <= {*rows.LEFT_EMPTY, "postage"}
    old = rows.create_history(connection, service, key_type="team")
    found = rows.row(connection, "notification_history", old)
    assert found is not None
    assert (found["key_type"], found["client_reference"]) == ("team", "of client_reference")
    for table in set(there.get_table_names()) & {"scheduled_notifications", "recipient_identifiers"}:
        rows.create_referring(connection, table, min(ids))
    with pytest.raises(KeyError):
        rows.create_notification(connection, service, no_such_column=1)


def test_the_four_and_our_own_are_here():
    assert set(FACTS) == set(ALL)
