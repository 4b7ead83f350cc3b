"""A chain, step after step: what it moves, where it looks, and what it opens when it has nothing left.

Which guard was taken out, to see the tests of a promise fail:
4  the test of whether other slices have ended; the probe for rows that are left, and its look below the moving bound;
   the lock on the group, after which neither of two slices that ended together opened the test chain; the probe for
   test notifications, and that it asks for those of the whole service, final or not
5  the slice's own bounds
6  the last look without the moving lower bound; the lower bound's `>=` made `>`
also a chain that takes a step of its own to see that nothing is left, and a test chain for nothing
7  `later` for rows that stay locked, after which the chain ended; the back-off of set-backs
"""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from app import clock
from app.dao import chains_dao, counting_dao, notifications_dao
from app.dao.chains_dao import TEST
from app.retention import chains as chains_module
from tests.chain_steps import chain, change, do, do_all, of_stage, open_chains
from tests.concurrency import background, locked
from tests.factories import create_notification, create_service, days_ago, history, live, steps

LOCK = "SELECT FROM notifications WHERE id = :id FOR UPDATE"


@pytest.fixture
def settings_override():
    return {"MESSAGES_PER_STEP": "4", "FAN_OUT_SPREAD_SECONDS": "0"}


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 5, 8, 9])
def test_a_chain_moves_everything_and_ends(app, connection, rows):
    service = create_service(connection)
    ids = {create_notification(connection, service, created_at=days_ago(40 - n)) for n in range(rows)}
    (wake,) = open_chains(service)
    done = do_all([wake])
    assert (live(connection), history(connection)) == (set(), ids)
    assert {one["state"] for one in (chain(connection, wake) for wake in done)} == {"ended"}
    assert chain(connection, wake)["ended_at"] is not None
    assert sum(record["moved"] for record in steps(connection)) == rows


def test_each_step_is_on_record_with_its_chain_and_the_next_begins_where_it_stopped(app, connection):
    service = create_service(connection)
    ages = [days_ago(40 - n) for n in range(6)]
    for created_at in ages:
        create_notification(connection, service, created_at=created_at)
    (wake,) = open_chains(service)
    (second,) = do(wake)
    assert (second.chain, second.step) == (wake.chain, wake.step + 1)
    assert chain(connection, wake)["lower_bound"] == ages[3]
    assert do(second) == []
    assert (chain(connection, wake)["lower_bound"], chain(connection, wake)["state"]) == (None, "ended")
    assert [(record["step"], record["moved"], record["max_created_at"]) for record in steps(connection)] == [
        (0, 4, ages[3]),
        (1, 2, ages[5]),
    ]


def test_rows_of_the_instant_at_which_a_step_stopped_are_moved_by_the_next(app, connection):
    service, instant = create_service(connection), days_ago(20)
    ids = {create_notification(connection, service, created_at=instant) for _ in range(11)}
    (wake,) = open_chains(service)
    (second,) = do(wake)
    assert len(history(connection)) == 4
    assert len(do(second)) == 1
    assert len(history(connection)) == 8
    do_all([second, replace(second, step=second.step + 1)])
    assert history(connection) == ids


def test_old_rows_that_arrive_below_the_bound_in_the_middle_of_a_run_are_moved_by_the_last_look(app, connection):
    service = create_service(connection)
    for n in range(6):
        create_notification(connection, service, created_at=days_ago(30 - n))
    (wake,) = open_chains(service)
    (second,) = do(wake)
    late = create_notification(connection, service, created_at=days_ago(300))
    (third,) = do(second)
    assert late in live(connection)
    assert do(third) == []
    assert late in history(connection)
    assert (chain(connection, wake)["state"], live(connection)) == ("ended", set())


def test_a_step_that_finds_nothing_above_the_bound_looks_below_it_before_the_chain_ends(app, connection):
    service = create_service(connection)
    for n in range(4):
        create_notification(connection, service, created_at=days_ago(30 - n))
    (wake,) = open_chains(service)
    (second,) = do(wake)
    late = create_notification(connection, service, created_at=days_ago(300))
    (last_look,) = do(second)
    assert (last_look.chain, late in live(connection)) == (wake.chain, True)
    do_all([last_look])
    assert late in history(connection)
    assert chain(connection, wake)["state"] == "ended"


def test_a_row_that_is_locked_makes_the_chain_come_back_later_and_ever_later(app, connection):
    service = create_service(connection)
    held = create_notification(connection, service)
    other = create_notification(connection, service)
    (wake,) = open_chains(service)
    with locked(app, LOCK, id=held):
        (second,) = do(wake)
        assert history(connection) == {other}
        for setbacks, longest in ((1, 1), (2, 2), (3, 4)):
            assert do_now(connection, second) == []
            row = chain(connection, wake)
            assert (row["state"], row["reason"], row["setbacks"]) == ("waiting", "locked", setbacks)
            assert row["sent_at"] is None
            pause = row["due_at"] - clock.now()
            assert timedelta(seconds=longest * 0.5) < pause <= timedelta(seconds=longest)
            assert do(replace(second, step=row["step"])) == []  # too early: nothing happens
            assert chain(connection, wake)["step"] == row["step"]
        assert of_stage(connection, TEST) == []
    assert do_now(connection, second) == []
    assert history(connection) == {held, other}
    assert (chain(connection, wake)["setbacks"], chain(connection, wake)["state"]) == (0, "ended")


def do_now(connection, wake):
    """The chain's next step, as if it were due."""
    change(connection, wake, "due_at = now() - interval '1 second'")
    return do(replace(wake, step=chain(connection, wake)["step"]))


def test_test_notifications_wait_for_the_real_ones_and_then_go(app, connection):
    service = create_service(connection)
    tests = {create_notification(connection, service, created_at=days_ago(90), key_type="test") for _ in range(9)}
    real = {create_notification(connection, service) for _ in range(5)}
    (wake,) = open_chains(service)
    (second,) = do(wake)
    assert (len(live(connection)), len(history(connection))) == (len(tests) + 1, 4)
    assert of_stage(connection, TEST) == []
    (test_wake,) = do(second)
    assert (test_wake.stage, live(connection), history(connection)) == (TEST, tests, real)
    assert [record["deleted"] for record in (do_all([test_wake]) and steps(connection))] == [0, 0, 4, 4, 1]
    assert (live(connection), history(connection)) == (set(), real)
    assert [row["state"] for row in of_stage(connection, TEST)] == ["ended"]


@pytest.mark.parametrize(
    ("real", "tests", "tasks"),
    [
        pytest.param(0, 0, 1, id="nothing"),
        pytest.param(1, 0, 1, id="a batch that is not full"),
        pytest.param(3, 2, 1 + 1, id="and one of tests"),
        pytest.param(4, 0, 1 + 1, id="a full one: what is above it was not seen"),
        pytest.param(6, 0, 2, id="two"),
        pytest.param(6, 5, 2 + 2, id="two of each"),
        pytest.param(0, 3, 1 + 1, id="only tests: the real ones are asked for first"),
    ],
)
@pytest.mark.parametrize("notification_type", ["email", "sms"])
def test_no_task_is_spent_on_seeing_that_nothing_is_left(app, connection, notification_type, real, tests, tasks):
    service = create_service(connection)
    for key_type, count in (("normal", real), ("test", tests)):
        for _ in range(count):
            create_notification(connection, service, notification_type, key_type=key_type)
    create_notification(connection, service, notification_type, created_at=days_ago(1), key_type="test")
    assert len(do_all(open_chains(service, notification_type))) == tasks
    found_nothing = [step for step in steps(connection) if not step["moved"] + step["deleted"]]
    assert len(found_nothing) == (0 if real % 4 else 1)
    assert (len(live(connection)), len(history(connection))) == (1, real)


def slices_of(connection, service):
    """Three slices with five rows each; their bounds and the rows of each."""
    bounds = [days_ago(80), days_ago(60)]
    rows = [
        {create_notification(connection, service, created_at=days_ago(oldest + n)) for n in range(5)}
        for oldest in (85, 65, 45)
    ]
    return open_chains(service, bounds=bounds), rows


def test_each_slice_moves_its_own_rows_and_only_the_first_is_open_downwards(app, connection):
    service = create_service(connection)
    wakes, rows = slices_of(connection, service)
    late = create_notification(connection, service, created_at=days_ago(300))
    moved = set()
    for number in (2, 1, 0):
        do_all([wakes[number]])
        moved |= rows[number] | ({late} if number == 0 else set())
        assert history(connection) == moved
    assert live(connection) == set()


def test_a_row_at_a_bound_belongs_to_the_slice_that_begins_there(app, connection):
    service, bound = create_service(connection), days_ago(50)
    at = create_notification(connection, service, created_at=bound)
    before = create_notification(connection, service, created_at=bound - timedelta(microseconds=1))
    lower, upper = open_chains(service, bounds=[bound])
    do_all([upper])
    assert (live(connection), history(connection)) == ({before}, {at})
    do_all([lower])
    assert history(connection) == {at, before}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("age", [90, 70, 50])
def test_the_test_chain_is_opened_once_after_the_last_slice_whichever_that_is(app, connection, order, age):
    service = create_service(connection)
    wakes, _ = slices_of(connection, service)
    create_notification(connection, service, created_at=days_ago(age), key_type="test")
    opened = []
    for number in order:
        opened.append([wake.stage for wake in do_all([wakes[number]])].count(TEST))
    assert [count > 0 for count in opened] == [False, False, True]
    assert len(of_stage(connection, TEST)) == 1


def test_two_slices_that_end_at_the_same_time_open_one_test_chain(app, connection, monkeypatch):
    service = create_service(connection)
    create_notification(connection, service, key_type="test")
    wakes = open_chains(service, bounds=[days_ago(50)])
    both_are_at_the_end = threading.Barrier(2)
    is_last = chains_dao.is_last_of_group

    def is_last_when_both_ask(*arguments):
        both_are_at_the_end.wait(10)
        return is_last(*arguments)

    monkeypatch.setattr(chains_dao, "is_last_of_group", is_last_when_both_ask)
    with background(app) as start:
        ends = [start(do, wake) for wake in wakes]
        opened = [wake for end in ends for wake in end.result(20)]
    assert [wake.stage for wake in opened] == [TEST]
    assert [row["state"] for row in of_stage(connection, TEST)] == ["waiting"]


def test_a_slice_that_rests_or_waits_keeps_the_test_chain_closed(app, connection):
    service = create_service(connection)
    held = create_notification(connection, service, created_at=days_ago(20))
    lower, upper = open_chains(service, bounds=[days_ago(50)])
    with locked(app, LOCK, id=held):
        do_all([upper, lower])
        assert [chain(connection, wake)["state"] for wake in (lower, upper)] == ["ended", "waiting"]
        assert of_stage(connection, TEST) == []
    change(connection, upper, "state = 'resting', reason = 'on-hold'")
    assert do(upper) == []
    assert of_stage(connection, TEST) == []


def test_a_chain_of_a_service_whose_retention_is_refused_ends_and_opens_nothing(app, connection):
    service = create_service(connection, email=0)
    ids = {create_notification(connection, service), create_notification(connection, service, key_type="test")}
    (wake,) = open_chains(service)
    assert do_all([wake]) == [wake]
    row = chain(connection, wake)
    assert (row["state"], row["reason"]) == ("ended", "retention-refused")
    assert (live(connection), of_stage(connection, TEST)) == (ids, [])


def test_a_chain_whose_service_is_gone_ends(app, connection):
    service = create_service(connection)
    (wake,) = open_chains(service)
    connection.execute(text("DELETE FROM services WHERE id = :id"), {"id": service})
    assert do(wake) == []
    assert chain(connection, wake)["state"] == "ended"


def test_a_task_without_a_chain_gets_the_nights_own_and_only_one(app, connection):
    service = create_service(connection)
    ids = {create_notification(connection, service) for _ in range(5)}
    (wake,) = chains_module.adopt("email", service, days_ago(10))
    assert chains_module.adopt("email", service, wake.cutoff) == []
    do_all([wake])
    assert history(connection) == ids
    assert [one["state"] for one in of_stage(connection, chains_dao.REAL)] == ["ended"]


def test_slices_divide_a_services_overdue_rows_without_gap_or_overlap(app, connection):
    service = create_service(connection)
    ages = sorted(days_ago(20 + n / 10) for n in range(23))
    for created_at in ages:
        create_notification(connection, service, created_at=created_at)
    scope = notifications_dao.Scope(service, "email", notifications_dao.REAL, created_before=days_ago(7))
    assert counting_dao.slice_bounds(connection, scope, 5, 100) == [ages[5], ages[10], ages[15], ages[20]]
    assert counting_dao.slice_bounds(connection, scope, 5, 3) == [ages[5], ages[10]]
    assert counting_dao.slice_bounds(connection, scope, 23, 8) == []
    # Not 22 rows and one: they are of a size.
    assert counting_dao.slice_bounds(connection, scope, 22, 8) == [ages[12]]
