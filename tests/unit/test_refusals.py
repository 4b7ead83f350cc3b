"""A refusal names what the schema calls things, and repeats no value. Seen to fail with the error's own text in it."""

import psycopg2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.db import db
from app.refusals import Refusal, refusal_of

SECRET = "planted-value"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "CREATE TEMP TABLE t (a text CONSTRAINT short CHECK (length(a) < 3)); INSERT INTO t VALUES (:secret)",
            Refusal("CheckViolation", "23514", "short", "t"),
        ),
        (
            "CREATE TEMP TABLE t (a varchar(3)); INSERT INTO t VALUES (:secret)",
            Refusal("StringDataRightTruncation", "22001"),
        ),
        (
            """
            CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN RAISE EXCEPTION ''not %'', NEW.a; END';
            CREATE TEMP TABLE t (a text);
            CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse();
            INSERT INTO t VALUES (:secret)
            """,
            Refusal("RaiseException", "P0001", "refuse"),
        ),
        (
            "CREATE TEMP TABLE t (a text NOT NULL); INSERT INTO t VALUES (NULL)",
            Refusal("NotNullViolation", "23502", "a", "t"),
        ),
    ],
    ids=["check", "too-long", "trigger", "not-null"],
)
def test_a_refusal_has_the_names_and_none_of_the_values(app, statement, expected):
    with pytest.raises(DBAPIError) as raised, db.engine.connect() as connection:
        connection.execute(text(statement), {"secret": SECRET} if ":secret" in statement else {})
    refusal = refusal_of(raised.value)
    assert refusal == expected
    assert SECRET not in repr(refusal) + str(refusal)


@pytest.mark.parametrize(
    ("sqlstate", "one_row"),
    [
        ("23514", True),
        ("22001", True),
        ("P0001", True),
        ("428C9", False),
        ("40P01", False),
        ("57014", False),
        (None, False),
    ],
)
def test_only_some_refusals_can_be_the_fault_of_one_row(sqlstate, one_row):
    assert Refusal("Some", sqlstate).may_be_one_row is one_row


def test_an_error_without_an_answer_is_described_too():
    error = DBAPIError("SELECT", {}, psycopg2.OperationalError("server closed the connection"))
    assert refusal_of(error) == Refusal("OperationalError", None)
