"""Policies against the live catalogue: what fits, and one sentence for all that does not.

Seen to fail: what is wrong is not noted; a privilege that is not asked for.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Connection, make_url
from sqlalchemy.exc import ProgrammingError

from app.db import db
from tests.policies import MOVED, checked, grant, unplanned_tables, use


@pytest.fixture
def tables(connection: Connection) -> Iterator[Connection]:
    with unplanned_tables(connection):
        yield connection


def entry(**changes: str | None) -> str:
    keys = {"table": '"parcels"', "age": '"created_at"', "retention": "{ days = 7 }", "then": '"delete"'} | changes
    return "[mine]\n" + "\n".join(f"{key} = {value}" for key, value in keys.items() if value is not None)


@pytest.mark.parametrize(
    ("changes", "key", "sentence"),
    [
        ({"table": '"parcells"'}, "table", "there is no table parcells"),
        ({"table": '"retention.parcels"'}, "table", "there is no table retention.parcels"),
        ({"table": '"parcel_view"'}, "table", "parcel_view is a view"),
        ({"table": '"notifications"'}, "table", "the product keeps it by itself"),
        ({"table": '"public.users"'}, "table", "the product keeps it by itself"),
        ({"table": '"parcel_parts"'}, "table", "needs a primary key of one column"),
        ({"age": '"made_at"'}, "age", "there is no column made_at in parcels"),
        ({"age": '"weight"'}, "age", "weight is of type integer; an age is a timestamp or a date"),
        ({"age": '["created_at", "seen_on"]'}, "age", "its columns must have one type"),
        ({"age": '"kind_id.made_at"'}, "age", "there is no column made_at in parcel_kinds"),
        ({"age": '"weight.made_at"'}, "age", "column weight of parcels has no foreign key"),
        ({"age": '"parent_id.created_at"'}, "age", "parent_id.created_at comes back to parcels"),
        ({"age": '"sent_at"'}, "age", "was never analysed and no index for sent_at"),
        ({"age": '["sent_at", "created_at"]'}, "age", "no index for sent_at and created_at"),
        ({"age": '"kind_id.listed_at"'}, "age", "no index for kind_id.listed_at"),
        ({"where": "{ gone = true }"}, "where.gone", "there is no column gone"),
        ({"where": "{ archived = 1 }"}, "where.archived", "archived is of type boolean; give true or false"),
        ({"where": "{ weight = true }"}, "where.weight", "give a number"),
        ({"where": "{ address = 1 }"}, "where.address", "give a text"),
        ({"where": '{ state = "lost" }'}, "where.state", "it is one of packed, sent, gone"),
        ({"where": '{ id = "7" }'}, "where.id", "the text is no uuid"),
        ({"where": '{ sent_at = "noon" }'}, "where.sent_at", "the text is no timestamp"),
        ({"where": '{ note = "x" }'}, "where.note", "only `set` is for such a column"),
        ({"where": '{ state = { above = "sent" } }'}, "where.state", "has no order here"),
        ({"where": '{ "kind_id.size" = 1 }'}, "where.kind_id.size", "there is no column size in parcel_kinds"),
        ({"service": '"owner_id"'}, "service", "there is no column owner_id"),
        ({"service": '"weight"'}, "service", "a service's id is a uuid"),
        ({"user": '"weight"'}, "user", "a user's id is a uuid"),
        (
            {"table": '"parcel_odd"', "retention": '{ days = 7, of_service_for = "sms" }'},
            "retention.of_service_for",
            "it needs a path to the service",
        ),
        (
            {"retention": '{ days = 7, of_service_for = "kind_id.hidden" }'},
            "retention.of_service_for",
            "is of type boolean, and no word",
        ),
        ({"files": '{ bucket = "csv", key = "{gone}/{id}" }'}, "files.key", "there is no column gone"),
        ({"files": '{ bucket = "csv", key = "{service_id}.csv" }'}, "files.key", "two rows could share an object"),
        ({"then": '{ move = "parcel" }'}, "then.move", "there is no table parcel"),
        ({"then": '{ move = "public.parcels" }'}, "then.move", "can't move to the table that it is in"),
        ({"then": '{ move = "notification_history" }'}, "then.move", "the product keeps it by itself"),
        ({"then": '{ move = "parcel_strict" }'}, "then.move", "needs a value for price, which parcels lacks"),
        ({"then": '{ move = "parcel_odd" }'}, "then.move", "note can't be copied"),
        ({"then": '{ move = "box_lids" }'}, "then.move", "id can't be copied"),
        ({"then": "{ redact = { gone = 1, created_at = {now = true} } }"}, "then.redact.gone", "there is no column"),
        (
            {"then": "{ redact = { id = { null = true }, created_at = {now = true} } }"},
            "then.redact.id",
            "can't be set",
        ),
        (
            {"then": "{ redact = { archived = { null = true }, created_at = {now = true} } }"},
            "then.redact.archived",
            "archived may not be NULL",
        ),
        (
            {"then": '{ redact = { weight = "x", created_at = {now = true} } }'},
            "then.redact.weight",
            "give a number",
        ),
        (
            {"then": "{ redact = { weight = { now = true }, created_at = {now = true} } }"},
            "then.redact.weight",
            "and no time",
        ),
        (
            {"then": '{ redact = { weight = { column = "address" }, created_at = {now = true} } }'},
            "then.redact.weight",
            "address has another type than weight",
        ),
        ({"table": '"boxes"'}, "takes", "rows of box_lids would go with it by CASCADE"),
        ({"takes": '["box_lids"]'}, "takes", "no foreign key of box_lids points at parcels"),
    ],
)
def test_what_does_not_fit_is_one_sentence_with_its_key_and_line(app, tables, tmp_path, changes, key, sentence):
    text = entry(**changes)
    assert use(app, text, tmp_path).problems == ()
    tables.exec_driver_sql("ANALYZE boxes, parcel_parts, parcel_odd")  # few rows: it may be read whole
    bound = checked(app, "mine")
    assert bound.table is None
    [problem] = bound.problems
    of_key = [number for number, line in enumerate(text.splitlines(), 1) if line.startswith(key.split(".")[0] + " =")]
    assert (problem.key, [problem.line]) == (key, of_key or [1])
    assert sentence in problem.sentence


def test_a_policy_that_fits_may_do_its_work_with_the_grants_that_are_printed(app: Flask, tables, tmp_path: Path):
    use(app, MOVED, tmp_path)
    role = make_url(app.extensions["settings"].database_url).username or ""
    before = checked(app, "parcels")
    [problem] = before.problems
    assert (
        "may not SELECT on parcel_marks, SELECT on parcels, UPDATE on parcels, DELETE on parcels, INSERT"
        in problem.sentence
    )
    with pytest.raises(ProgrammingError), db.transaction() as connection:
        connection.exec_driver_sql("SELECT id FROM parcels FOR UPDATE")
    grant(tables, before, role)
    after = checked(app, "parcels")
    assert (after.problems, after.lacking) == ((), ())
    assert after.table is not None
    assert [copy.column for copy in after.table.copied] == ["id", "service_id", "kind_id", "created_at"]
    assert [plan.key.table for plan in after.table.referring] == ["parcel_marks", "parcels"]
    with db.transaction() as connection:
        connection.exec_driver_sql("SELECT id, created_at FROM parcels FOR UPDATE")
    with pytest.raises(ProgrammingError), db.transaction() as connection:
        connection.exec_driver_sql("SELECT address FROM parcels")


def test_a_table_without_an_index_is_taken_as_long_as_it_is_small(app: Flask, tables, tmp_path: Path):
    use(app, entry(age='"sent_at"'), tmp_path)
    assert "CREATE INDEX CONCURRENTLY ON public.parcels (sent_at)" in str(checked(app, "mine").problems[0])
    tables.exec_driver_sql("ANALYZE parcels")
    assert "may not" in str(checked(app, "mine").problems[0])


def test_paths_share_a_join_and_lead_as_far_as_keys_do(app: Flask, tables, tmp_path: Path):
    text = entry(where='{ "kind_id.hidden" = true, "kind_id.listed_at" = { set = true } }')
    use(app, text.replace("{ days = 7 }", '{ days = 7, of_service_for = "kind_id.template_type" }'), tmp_path)
    bound = checked(app, "mine").table
    assert bound is not None
    assert [(join.alias, join.table.name, join.columns) for join in bound.joins] == [
        ("p1", "parcel_kinds", ("kind_id",))
    ]


def test_the_command_lists_what_there_is_and_says_what_is_wrong(app: Flask, tables, tmp_path: Path):
    run = app.test_cli_runner().invoke
    use(app, MOVED + entry(table='"nowhere"') + "\n[more]\n", tmp_path)
    listed = run(args=["retention", "policies"])
    assert listed.exit_code == 1, "a file with a mistake"
    assert "parcels: 7 days after created_at, move to parcels_history, every night (own.toml)" in listed.output
    assert "own.toml, line 12: [more] table: it is missing" in listed.output
    told = json.loads(run(args=["retention", "policies", "--check", "--json"]).output)
    by_name = {policy["name"]: policy for policy in told["policies"]}
    assert by_name["mine"]["problems"] == ["own.toml, line 8: [mine] table: there is no table nowhere"]
    assert "GRANT INSERT ON public.parcels_history TO retention_worker;" in by_name["parcels"]["lacking"]
    use(app, MOVED, tmp_path)
    assert run(args=["retention", "policies"]).exit_code == 0
    checked_ = run(args=["retention", "policies", "--check"])
    assert checked_.exit_code == 1
    assert "GRANT DELETE ON public.parcels TO retention_worker;" in checked_.output
    role = make_url(app.extensions["settings"].database_url).username or ""
    grant(tables, checked(app, "parcels"), role)
    assert "fit the database" in run(args=["retention", "policies", "--check"]).output
    assert f'TO "{role}";' in run(args=["retention", "policies", "--role", role]).output or role.islower()
