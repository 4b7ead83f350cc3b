"""What adopting finds in the words of history's enums, its unique indexes and its times.

Seen to fail: words of a table of statuses or types not looked at, test notifications missed in history's enum, an index
of history with the id in it pointed out, a date taken from a time with a zone.
"""

from dataclasses import replace
from types import MappingProxyType

import pytest

from app.dao.catalogue import HISTORY, NOTIFICATIONS, Index, Type
from app.state import copying
from app.state.findings import Level
from tests.catalogues import TYPES, catalogue, index, table, with_column

WORDS_OF = Type("public", "of_history", "of_history", ("email", "sms", "normal", "sent"), 4)


def test_a_history_that_takes_everything_is_not_complained_of():
    assert list(copying.check(catalogue())) == []


@pytest.mark.parametrize(
    ("column", "source", "known", "said"),
    [
        ("notification_type", "types", {}, "lacks letter, which notification_type can be"),
        ("notification_type", "varchar", {"types": ("email", "push")}, "lacks push, which notification_type can be"),
        ("notification_status", "varchar", {"statuses": ("sent", "failed")}, "lacks failed, which notification_status"),
        ("notification_status", "varchar", {"statuses": ("sent",)}, None),
        ("notification_status", "varchar", {"statuses": None}, "a row with a word that the enum of_history of"),
        ("key_type", "varchar", {}, "a row with a word that the enum of_history of"),
    ],
)
def test_words_that_historys_enum_lacks_are_named_where_they_are_known(column, source, known, said):
    live = with_column(table(NOTIFICATIONS), column, type=TYPES[source])
    history = with_column(table(HISTORY), column, type=WORDS_OF)
    found = [one.sentence for one in copying.check(catalogue(live, history, **known)) if one.level is Level.LOOK]
    assert [said in one for one in found if said] == ([True] if said else [])
    assert len(found) == (1 if said else 0)


def test_historys_enum_need_not_know_test_notifications_which_never_get_there():
    kinds = Type("public", "kinds", "kinds", ("normal", "team", "test"), 4)
    live = with_column(table(NOTIFICATIONS), "key_type", type=kinds)
    history = with_column(table(HISTORY), "key_type", type=replace(kinds, name="few", labels=("normal", "team")))
    assert [one for one in copying.check(catalogue(live, history)) if one.level is Level.LOOK] == []


@pytest.mark.parametrize(
    ("unique", "is_said"),
    [
        (index("service_id", "created_at", is_unique=True), True),
        (index("service_id", "created_at"), False),
        (index("created_at", "id", is_unique=True), False),
        (replace(index("service_id", is_unique=True), predicate="(key_type = 'normal')"), True),
    ],
)
def test_a_unique_index_of_history_is_pointed_out_unless_the_id_is_in_it(unique: Index, is_said: bool):
    history = table(HISTORY, indexes=(index("id", is_unique=True), unique))
    assert [one.about for one in copying.check(catalogue(history)) if one.level is Level.LOOK] == (
        [f"notification_history.{unique.name}"] if is_said else []
    )


def test_a_time_zone_that_only_the_session_knows_is_never_copied_by():
    with_zone = Type("pg_catalog", "timestamptz", "timestamp with time zone", width=8)
    day = Type("pg_catalog", "date", "date", width=4)
    for of_live, of_history in ((with_zone, day), (day, with_zone), (TYPES["timestamp"], with_zone)):
        live = with_column(table(NOTIFICATIONS), "updated_at", type=of_live)
        history = with_column(table(HISTORY), "updated_at", type=of_history)
        casts = MappingProxyType({(of_live.base, of_history.base): True})
        found = [one for one in copying.check(catalogue(live, history, casts=casts)) if one.level is Level.MISSING]
        assert ["the time zone of the session" in one.sentence for one in found] == [True]
