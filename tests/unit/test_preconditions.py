"""What blocks which policies: facts in, findings out.

Seen to fail: each judgement taken out of `preconditions.check`, and `blocks` set to everything.
"""

from dataclasses import replace
from types import MappingProxyType

import pytest

from app import config
from app.dao.catalogue import HISTORY, NOTIFICATIONS, PLATFORM_TABLES, RowSecurity, Sight, Type
from app.dao.preconditions_dao import Behind, Sequences, Server, Unidentified
from app.state import preconditions
from app.state.findings import EVERYTHING, MOVES, OF_LETTERS, OF_NOTIFICATIONS, policy_of
from app.state.preconditions import Facts
from tests.catalogues import TYPES, catalogue, table, with_column
from tests.unit.test_config import NEEDED

SETTINGS = config.load(NEEDED)
WELL = Server(is_replica=False, is_read_only=False, is_careless=False, transaction_timeout_seconds=0)
EVERY = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
HELD = MappingProxyType({("public", name): EVERY for name in PLATFORM_TABLES})
BY_RECEIPTS = frozenset({"notification_status", "updated_at"})
HIDDEN, SEES_ALL = (Sight("me", hides_rows=hides, is_restricted=False) for hides in (True, False))
WITH_ZONE = Type("pg_catalog", "timestamptz", "timestamp with time zone", width=8)


def of(*tables, held=HELD, **facts):
    """Facts as the workers' role finds them where nothing is wrong, with these tables and facts in their place."""
    changed = {one.name: one for one in tables}
    live = changed.pop(NOTIFICATIONS, table(NOTIFICATIONS))
    readable = frozenset({*live.columns, "tableoid", "ctid", "xmin"})
    live = replace(live, columns_to_update=BY_RECEIPTS, columns_to_select=readable)
    given = {"server": WELL, "asks_for_itself": True, **facts}
    return Facts(catalogue(live, *changed.values(), held_on=held), **given)


def blocked(facts):
    found = [finding for finding in preconditions.check(facts, SETTINGS) if finding.blocks]
    return frozenset().union(*(finding.blocks for finding in found)), " ".join(finding.in_full for finding in found)


def test_nothing_is_blocked_where_nothing_is_wrong():
    assert blocked(of()) == (frozenset(), "")


@pytest.mark.parametrize(
    ("facts", "policies", "sentence"),
    [
        pytest.param(of(server=replace(WELL, is_replica=True)), EVERYTHING, "it is a standby. Name the primary"),
        pytest.param(of(server=replace(WELL, is_read_only=True)), EVERYTHING, "it is read-only. Name the primary"),
        pytest.param(
            of(server=replace(WELL, transaction_timeout_seconds=89)),
            EVERYTHING,
            "is 89 s, less than a step may take",
        ),
        pytest.param(
            of(with_column(table(NOTIFICATIONS), "created_at", type=WITH_ZONE)),
            OF_NOTIFICATIONS,
            "Column created_at of table notifications is timestamp with time zone",
        ),
        pytest.param(
            of(with_column(table(NOTIFICATIONS), "reference", type=TYPES["int4"])),
            OF_LETTERS,
            "Column reference of table notifications is integer",
        ),
        pytest.param(
            of(with_column(table(HISTORY), "id", always_identity=True)), MOVES, "GENERATED ALWAYS AS IDENTITY"
        ),
        pytest.param(of(table(NOTIFICATIONS, kind="p")), OF_NOTIFICATIONS, "made of several tables"),
        pytest.param(
            of(table(NOTIFICATIONS, row_security=RowSecurity(True, HIDDEN))),
            OF_NOTIFICATIONS,
            "hides rows from role me",
        ),
        pytest.param(
            of(unidentified=(Unidentified("public", NOTIFICATIONS, "to_warehouse", False, True),)),
            OF_NOTIFICATIONS,
            "publication to_warehouse sends on its deletes: PostgreSQL refuses each of them. ALTER TABLE public",
        ),
        pytest.param(
            of(sequences=Sequences((Behind("steps", "id", "steps_id_seq", 3, 40),))),
            OF_NOTIFICATIONS,
            "SELECT setval('retention.steps_id_seq', (SELECT max(id) FROM retention.steps));",
        ),
        pytest.param(
            of(held={**HELD, ("public", NOTIFICATIONS): EVERY - {"DELETE"}}),
            OF_NOTIFICATIONS,
            "Role someone lacks DELETE ON public.notifications. GRANT DELETE ON public.notifications TO someone;",
        ),
    ],
)
def test_what_is_not_as_it_must_be_blocks_the_policies_that_it_concerns(facts, policies, sentence):
    found, said = blocked(facts)
    assert found == policies
    assert sentence in said


@pytest.mark.parametrize(
    "facts",
    [
        of(server=replace(WELL, transaction_timeout_seconds=91)),
        of(unidentified=(Unidentified("public", NOTIFICATIONS, "inserts_and_updates", True, False),)),
        of(unidentified=(Unidentified("public", HISTORY, "to_warehouse", True, True),)),
        of(table(HISTORY, checks=frozenset({"CHECK (length(reference) < 5)"}))),
        of(
            table(
                NOTIFICATIONS, row_security=RowSecurity(True, Sight("me", False, False), (Sight("other", True, False),))
            )
        ),
        of(sequences=Sequences(unreadable=("steps_id_seq",))),
    ],
)
def test_what_may_be_refused_for_one_row_or_concerns_somebody_else_blocks_nothing(facts):
    assert blocked(facts) == (frozenset(), "")


def test_the_first_that_blocks_a_policy_is_said():
    found = list(preconditions.check(of(with_column(table(HISTORY), "id", always_identity=True)), SETTINGS))
    assert preconditions.blocking(found, policy_of("email", is_test=True)) is None
    assert "ALWAYS" in preconditions.blocking(found, policy_of("email", is_test=False)).sentence
