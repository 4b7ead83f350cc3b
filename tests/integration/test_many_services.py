"""Emails and text messages of all services that keep them equally long, in one chain.

Seen to fail: the hold, the days and the services with chains of their own not looked at in the choice; `after_service`
not set back where a batch is full; no look for what stays at the end; refused rows not deferred; batches that fail not
broken up; the first batch that is refused taken for everything; chains under way not excluded for test rows.
"""

from contextlib import suppress
from uuid import UUID

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.dao import step_history_dao
from app.retention import nightly, operations, overdue
from app.retention.steps import StepFailed
from tests.chain_steps import cutoff_tonight, do, do_all
from tests.concurrency import locked, trigger
from tests.factories import (
    chains,
    create_notification,
    create_service,
    days_ago,
    history,
    live,
    set_retention,
    steps,
    tonight,
)
from tests.integration.night import deferrals, dispatch, make_due, run_night


@pytest.fixture
def settings_override(request):
    return {"MESSAGES_PER_STEP": str(getattr(request, "param", 8)), "SLICES_PER_SERVICE": "3"}


def services_with(connection, rows: int, *, services: int = 4) -> list[UUID]:
    """Services, by id, each with so many overdue emails, two test ones and one that is not overdue."""
    made = sorted(create_service(connection) for _ in range(services))
    for number in range(rows):
        for service in made:
            create_notification(connection, service, created_at=days_ago(9 + number))
    for service in made:
        create_notification(connection, service, created_at=days_ago(1))
        for _ in range(2):
            create_notification(connection, service, key_type="test")
    return made


def rows_of(connection, service):
    """How many rows of a service are still there, test ones too."""
    statement = text("SELECT count(*) FROM notifications WHERE service_id = :id")
    return connection.execute(statement, {"id": service}).scalar()


def of_many(connection):
    return [chain for chain in chains(connection) if chain["service_id"] is None]


def of_one(connection):
    return [chain for chain in chains(connection) if chain["service_id"] is not None]


def test_services_that_keep_them_equally_long_share_a_chain_to_the_end_of_their_test_rows(app, connection):
    made = services_with(connection, 5)
    other = create_service(connection)
    set_retention(connection, other, "email", 30)
    kept, gone = create_notification(connection, other), create_notification(connection, other, created_at=days_ago(31))
    do_all(nightly.fan_out("email"))
    assert len(history(connection)) == 5 * 4 + 1
    assert gone in history(connection)
    assert kept in live(connection)
    assert len(live(connection)) == 4 + 1, "what is not overdue"
    assert {(chain["days"], chain["stage"], chain["state"]) for chain in of_many(connection)} == {
        (7, "real", "ended"),
        (7, "test", "ended"),
        (30, "real", "ended"),
    }
    assert of_one(connection) == []
    for service in made:
        days = step_history_dao.of_service(connection, service, tonight(), tonight(), ["email"])
        assert {(day.stage, day.moved, day.deleted) for day in days} == {("real", 5, 0), ("test", 0, 2)}
    assert step_history_dao.is_on_record(connection, made[0])
    assert not step_history_dao.is_on_record(connection, create_service(connection))


def test_a_batch_takes_full_services_in_the_order_of_their_ids_oldest_rows_first(app, connection):
    first, second, third, *_ = services_with(connection, 3)
    (wake,) = nightly.fan_out("email")
    do(wake)
    (step,) = steps(connection)
    assert (step["services"], step["removed_of"], step["moved"]) == ([first, second, third], [3, 3, 2], 8)
    left = text("SELECT max(created_at) FROM notifications WHERE service_id = :id AND created_at < :before")
    moved = text("SELECT max(created_at) FROM notification_history WHERE service_id = :id")
    values = {"id": third, "before": cutoff_tonight().replace(tzinfo=None)}
    assert connection.execute(moved, values).scalar() < connection.execute(left, values).scalar()


def test_many_services_are_divided_into_ranges_that_leave_none_out():
    ids = [UUID(int=number) for number in range(1, 2_202)]
    slices = nightly.slices_of_many(ids, 8)
    bounds = [(one.first_service, one.last_service) for one in slices]
    assert len(bounds) == 5
    assert (bounds[0][0], bounds[-1][1]) == (None, None)
    assert [last for _, last in bounds[:-1]] == [first for first, _ in bounds[1:]]
    assert len(nightly.slices_of_many(ids, 2)) == 2


@pytest.mark.parametrize("everywhere", [False, True], ids=["one service", "every second service"])
def test_rows_that_the_database_refuses_stop_no_other(app, connection, everywhere):
    made = services_with(connection, 3, services=6)
    bad = made[::2] if everywhere else made[2:3]
    refused = ", ".join(f"'{service}'" for service in bad)
    body = f"IF NEW.service_id IN ({refused}) THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW;"
    with trigger(connection, "BEFORE INSERT ON notification_history", body):
        run_night("email")
        of_others = text("SELECT count(*) FROM notifications WHERE service_id <> ALL (:bad) AND created_at < :before")
        values = {"bad": bad, "before": cutoff_tonight().replace(tzinfo=None)}
        assert connection.execute(of_others, values).scalar() == 0, "their test rows are gone, too"
        waits = set(deferrals(connection)) | {row["service_id"] for row in of_one(connection) if row["reason"]}
        assert waits
        assert len(history(connection)) == 3 * (6 - len(bad))
    operations.retry()
    make_due(connection)
    dispatch()
    assert len(history(connection)) == 3 * 6
    assert deferrals(connection) == {}


def test_single_rows_that_the_database_refuses_are_deferred_and_their_services_need_no_chains(app, connection):
    made = services_with(connection, 3)
    bad = {create_notification(connection, service, client_reference="bad") for service in made[:2]}
    body = "IF NEW.client_reference = 'bad' THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW;"
    with trigger(connection, "BEFORE INSERT ON notification_history", body):
        run_night("email")
    assert len(history(connection)) == 3 * 4
    held = deferrals(connection)
    assert {id_: row["service_id"] for id_, row in held.items()}.keys() == bad
    assert {row["service_id"] for row in held.values()} == set(made[:2])
    assert of_one(connection) == []


@pytest.mark.parametrize("settings_override", [30], indirect=True)
def test_a_service_of_which_too_many_rows_are_refused_waits_for_a_person_and_no_other_does(app, connection):
    made = services_with(connection, 24, services=3)
    is_bad = f"NEW.service_id = '{made[1]}' AND NEW.client_reference = 'bad'"
    body = f"IF {is_bad} THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW;"
    connection.execute(
        text("UPDATE notifications SET client_reference = 'bad' WHERE service_id = :id AND created_at < :before"),
        {"id": made[1], "before": days_ago(10).replace(tzinfo=None)},
    )
    with trigger(connection, "BEFORE INSERT ON notification_history", body):
        run_night("email")
    assert [(row["service_id"], row["state"]) for row in of_one(connection)] == [(made[1], "resting")]
    assert of_one(connection)[0]["reason"] in ("rows-refused", "database-refuses")
    assert len(history(connection)) >= 24 * 2


def test_when_everything_is_refused_the_chain_waits_for_a_person_before_it_has_handed_over_every_service(
    app, connection
):
    services_with(connection, 3, services=14)
    with trigger(connection, "BEFORE INSERT ON notification_history", "RAISE EXCEPTION 'no';"):
        do_all(nightly.fan_out("email"))
        (chain,) = of_many(connection)
        assert (chain["state"], chain["reason"]) == ("resting", "database-refuses")
        assert "P0001" in chain["last_error"]
        assert len(of_one(connection)) <= 8
        kept = [one for one in overdue.measure().kept if one.why]
        assert len(kept) == 14
        assert {why.split(":")[0] for one in kept for why in one.why} == {"database-refuses"}
    operations.retry()
    make_due(connection)
    dispatch()
    assert len(history(connection)) == 3 * 14
    assert len(live(connection)) == 14


def test_a_hold_placed_midway_is_kept_and_the_service_goes_on_when_it_is_lifted(app, connection):
    made = services_with(connection, 3)
    (wake,) = nightly.fan_out("email")
    (wake,) = do(wake)
    operations.hold(made[-1], "a court's order", "somebody", wait_seconds=5)
    do_all([wake])
    run_night("email")
    assert rows_of(connection, made[-1]) == 3 + 1 + 2
    assert len(history(connection)) == 3 * 3
    assert [(row["service_id"], row["reason"]) for row in of_one(connection)] == [(made[-1], "on-hold")]
    operations.lift(str(made[-1]), "somebody")
    dispatch()
    assert rows_of(connection, made[-1]) == 1


def test_a_retention_that_is_lengthened_midway_is_honoured(app, connection):
    made = services_with(connection, 3)
    (wake,) = nightly.fan_out("email")
    (wake,) = do(wake)
    set_retention(connection, made[-1], "email", 90)
    do_all([wake])
    run_night("email")
    assert rows_of(connection, made[-1]) == 3 + 1 + 2
    assert len(history(connection)) == 3 * 3


def test_a_service_with_two_retentions_keeps_its_rows_and_is_reported(app, connection):
    made = services_with(connection, 1)
    unique = "uix_service_data_retention"
    connection.execute(text(f"ALTER TABLE service_data_retention DROP CONSTRAINT {unique}"))
    try:
        two = "SELECT gen_random_uuid(), :id, 'email', days, now() FROM (VALUES (7), (30)) AS own (days)"
        columns = "(id, service_id, notification_type, days_of_retention, created_at)"
        connection.execute(text(f"INSERT INTO service_data_retention {columns} {two}"), {"id": made[0]})
        with capture_logs() as said:
            run_night("email")
    finally:
        connection.execute(text("DELETE FROM service_data_retention"))
        connection.execute(
            text(f"ALTER TABLE service_data_retention ADD CONSTRAINT {unique} UNIQUE (service_id, notification_type)")
        )
    assert rows_of(connection, made[0]) == 1 + 1 + 2
    refused = [event for event in said if event["event"] == "retention-refused"]
    assert [event["service_id"] for event in refused] == [str(made[0])]
    assert "2 retentions" in refused[0]["why"]


def test_rows_that_somebody_has_locked_are_gone_when_they_are_let_go(app, connection):
    made = services_with(connection, 2)
    with locked(app, "SELECT FROM notifications WHERE service_id = :id AND key_type = 'normal' FOR UPDATE", id=made[1]):
        do_all(nightly.fan_out("email"))
        assert len(history(connection)) == 2 * 3
        assert [row["service_id"] for row in of_one(connection)] == [made[1]]
        tests_of_it = text("SELECT count(*) FROM notifications WHERE service_id = :id AND key_type = 'test'")
        assert connection.execute(tests_of_it, {"id": made[1]}).scalar() == 2, "they wait for its real ones"
    make_due(connection)
    dispatch()
    assert len(history(connection)) == 2 * 4
    assert len(live(connection)) == 4


def test_a_batch_that_fails_again_and_again_is_broken_up(app, connection, monkeypatch):
    made = services_with(connection, 1)
    body = f"IF NEW.service_id = '{made[1]}' THEN PERFORM pg_sleep(5); END IF; RETURN NEW;"
    monkeypatch.setattr("app.retention.steps.LONG_STATEMENTS_PER_STEP", 120)
    with trigger(connection, "BEFORE INSERT ON notification_history", body):
        nightly.fan_out("email")
        for _ in range(8):
            make_due(connection)
            for wake in nightly.dispatch()[0]:
                with suppress(StepFailed):
                    do_all([wake])
        assert {row["state"] for row in of_many(connection)} == {"ended"}
        assert made[1] in {row["service_id"] for row in of_one(connection)}
        assert len(history(connection)) == 3, "the others"
    monkeypatch.undo()
    make_due(connection)
    dispatch()
    assert len(history(connection)) == 4


def test_a_step_that_is_repeated_after_a_kill_does_nothing_twice(app, connection):
    services_with(connection, 4)
    (wake,) = nightly.fan_out("email")
    with trigger(
        connection,
        "BEFORE UPDATE ON retention.chains",
        "IF NEW.step > OLD.step THEN RAISE EXCEPTION 'killed'; END IF; RETURN NEW;",
    ):
        with suppress(StepFailed):
            do(wake)
        assert history(connection) == set()
        assert steps(connection) == []
    make_due(connection)
    do_all([wake])
    assert len(history(connection)) == 4 * 4


def test_a_night_that_is_started_again_reaches_what_came_late(app, connection):
    made = services_with(connection, 2)
    operations.hold(made[0], "a court's order", "somebody", wait_seconds=5)
    run_night("email")
    operations.lift(str(made[0]), "somebody")
    dispatch()
    late = {create_notification(connection, service) for service in made}
    run_night("email")
    assert late <= history(connection)
