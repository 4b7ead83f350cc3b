"""Numbers as a person says them, identifiers as SQL takes them.

Seen to fail: each span's length a second more and less, each unit left out, spans rounded down, bytes by 1,024, the
plural for one, a finding that is missing let through, names left unquoted, `%` doubled, a privilege that is none.
"""

import pytest

from app.dao import adoption_sql
from app.state.findings import amount, can_run, look, missing, note, size, span


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (52_000_000, "52 MB"), (4.23e9, "4.2 GB"), (3e12, "3.0 TB")],
)
def test_bytes_are_said_in_their_largest_unit(count, said):
    assert size(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (150, "2 minutes"),
        (170, "3 minutes"),
        (3599, "60 minutes"),
        (3600, "1 hour"),
        (86_399, "24 hours"),
        (86_400, "1 day"),
    ],
)
def test_spans_of_time_are_said_in_their_largest_unit(seconds, said):
    assert span(seconds) == said


@pytest.mark.parametrize(("number", "said"), [(0, "0 rows"), (1, "1 row"), (2_000, "2,000 rows")])
def test_one_is_not_many(number, said):
    assert amount(number, "row") == said


def test_only_what_is_missing_keeps_the_pipeline_from_running():
    assert can_run([note("a", "b"), look("a", "b", "c")])
    assert not can_run([note("a", "b"), missing("a", "b", "c")])


@pytest.mark.parametrize(
    ("names", "quoted"),
    [
        (("notifications",), "notifications"),
        (("public", "notifications"), "public.notifications"),
        (("Our Schema", "to"), '"Our Schema"."to"'),
        (("order",), '"order"'),
        (('a"; DROP TABLE x; --',), '"a""; DROP TABLE x; --"'),
        (("100%",), '"100%"'),
        (("{table}",), '"{table}"'),
    ],
)
def test_names_are_quoted_where_sql_needs_it(names, quoted):
    assert adoption_sql.quoted(*names) == quoted


def test_a_name_with_braces_or_percent_signs_stays_itself_in_a_statement():
    made = adoption_sql.create_index("ix_{table}", "100%", "a b", ["{columns}", "to"])
    assert made == 'CREATE INDEX CONCURRENTLY "ix_{table}" ON "100%"."a b" ("{columns}", "to");'


def test_only_privileges_are_granted():
    with pytest.raises(ValueError, match="no such privileges"):
        adoption_sql.grant_on_table(["ALL"], "public", "notifications", "someone")
