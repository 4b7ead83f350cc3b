"""What adopting finds in the server, the tables, their words, and the rows that no night would ever take.

Seen to fail: the version not looked at, ids told to be made uuid, a unique index of more columns taken for one of a
retention, a rule for what no move does pointed out, a key to another schema's services or one that is not validated
taken for one that holds, a NULL let through, unknown types looked for in enums alone.
"""

from dataclasses import replace
from types import MappingProxyType

import pytest

from app.adopt import unseen
from app.dao.catalogue import HISTORY, NOTIFICATIONS, RETENTIONS, Rule
from app.state import tables, words
from app.state.findings import Level
from tests.catalogues import OF_SERVICE, TYPES, catalogue, index, table, with_column
from tests.unit.test_config import load


def test_tables_with_nothing_wrong_are_not_complained_of():
    found = [*tables.check(catalogue(), load()), *words.check(catalogue(), load()), *unseen.check(catalogue())]
    assert [one for one in found if one.level is not Level.NOTE] == []


@pytest.mark.parametrize(("version", "is_missing"), [(139_999, True), (140_000, False)])
def test_a_server_that_is_too_old_is_missing_something(version, is_missing):
    found = [one for one in tables.check(catalogue(server_version=version), load()) if one.about == "server"]
    assert [(one.level, one.sentence) for one in found] == (
        [(Level.MISSING, "PostgreSQL is older than 14")] if is_missing else []
    )


@pytest.mark.parametrize(
    ("column", "fix"),
    [
        ("id", "there is no setting for this: ids that are not uuid are not supported"),
        (
            "created_at",
            "make it timestamp without time zone (in UTC): compared as that, the pipeline would take other rows than "
            "it should",
        ),
    ],
)
def test_what_no_setting_fixes_is_said_so(column, fix):
    live = with_column(table(NOTIFICATIONS), column, type=TYPES["varchar"])
    assert [one.fix for one in tables.check(catalogue(live), load())] == [fix]


@pytest.mark.parametrize(
    ("columns", "is_said"),
    [
        ([("service_id", "notification_type")], False),
        ([("notification_type", "service_id")], False),
        ([("service_id",)], False),
        ([("id",), ("service_id", "notification_type", "days_of_retention")], True),
    ],
)
def test_two_retentions_of_a_service_and_type_are_to_be_kept_apart(columns, is_said):
    retentions = table(RETENTIONS, indexes=tuple(index(*one, is_unique=True) for one in columns))
    assert [one.fix for one in tables.check(catalogue(retentions), load())] == (
        [
            "delete all but the right one of each, and keep them apart: SELECT service_id, notification_type, count(*) "
            "FROM public.service_data_retention GROUP BY service_id, notification_type HAVING count(*) > 1; "
            "CREATE UNIQUE INDEX CONCURRENTLY ON public.service_data_retention (service_id, notification_type);"
        ]
        if is_said
        else []
    )


@pytest.mark.parametrize(
    ("name", "event", "fix"),
    [
        (NOTIFICATIONS, "DELETE", "see what becomes of them"),
        (NOTIFICATIONS, "INSERT", None),
        (HISTORY, "INSERT", "PostgreSQL refuses ON CONFLICT"),
        (HISTORY, "UPDATE", "PostgreSQL refuses ON CONFLICT"),
        (HISTORY, "DELETE", None),
    ],
)
def test_a_rule_is_pointed_out_where_it_rewrites_what_a_move_does(name, event, fix):
    found = list(tables.check(catalogue(table(name, rules=(Rule("rewrites", event),))), load()))
    assert [(one.level, one.about) for one in found] == ([(Level.LOOK, f"{name}.rewrites")] if fix else [])
    assert all(fix in one.fix for one in found)


@pytest.mark.parametrize(
    ("keys", "is_said"),
    [
        ((OF_SERVICE,), False),
        ((), True),
        ((replace(OF_SERVICE, is_validated=False),), True),
        ((replace(OF_SERVICE, referred_schema="other"),), True),
        ((replace(OF_SERVICE, columns=("id",)),), True),
    ],
)
def test_rows_of_a_service_that_is_gone_are_to_be_counted(keys, is_said):
    assert [one.fix for one in unseen.check(catalogue(from_notifications=keys))] == (
        [
            "see that there are none, and make the key or validate it: SELECT count(*) FROM public.notifications AS n "
            "WHERE NOT EXISTS (SELECT FROM public.services AS s WHERE s.id = n.service_id) AND n.service_id IS NOT "
            "NULL;"
        ]
        if is_said
        else []
    )


@pytest.mark.parametrize(
    ("column", "is_said"),
    [
        ("key_type", True),
        ("notification_type", True),
        ("created_at", True),
        ("notification_status", False),
        ("service_id", False),
    ],
)
def test_a_null_in_what_every_choice_compares_is_to_be_counted(column, is_said):
    live = with_column(table(NOTIFICATIONS), column, nullable=True)
    counted = f"make it NOT NULL: SELECT count(*) FROM public.notifications WHERE {column} IS NULL;"
    assert [one.fix.endswith(counted) for one in unseen.check(catalogue(live))] == ([True] if is_said else [])


@pytest.mark.parametrize(
    ("types", "shares", "unknown"),
    [
        (("email", "sms", "letter", "push"), {}, ["push"]),
        (None, {"email": 0.9, "push": 0.1}, ["push"]),
        (None, {"email": 0.9, "sms": 0.1}, []),
        (None, {}, []),
    ],
)
def test_types_that_are_never_looked_for_are_known_from_a_table_or_from_statistics(types, shares, unknown):
    live = with_column(table(NOTIFICATIONS), "notification_type", type=TYPES["varchar"])
    known = catalogue(live, types=types, type_shares=MappingProxyType(shares))
    found = [one for one in words.check(known, load()) if one.about == "notifications.notification_type"]
    assert [one.sentence.partition("does not know: ")[2] for one in found if one.level is Level.LOOK] == [
        f"{name}; its rows stay for ever" for name in unknown
    ]
    assert [one.fix.endswith("SELECT DISTINCT notification_type FROM public.notifications;") for one in found] == (
        [True] if types is None and not unknown else [True, False] if types is None else [False]
    )


def test_of_a_column_that_is_not_there_only_its_absence_is_said():
    live = table(NOTIFICATIONS)
    columns = {name: column for name, column in live.columns.items() if name != "notification_type"}
    without = catalogue(replace(live, columns=MappingProxyType(columns)), types=None)
    found = [*tables.check(without, load()), *words.check(without, load()), *unseen.check(without)]
    about = [(one.level, one.about) for one in found if one.about == "notifications.notification_type"]
    assert about == [(Level.MISSING, "notifications.notification_type")]
