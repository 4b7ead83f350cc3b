"""The promises of the design, on the databases that platforms already have and on our own schema.

The same code for all of them, with exactly the privileges that `flask retention adopt` prints. What a platform has not
(letters, files) is expected of it, too: it has them not.

Seen to fail, on each platform that it concerns: 1 letters moved without proof, letters of B looked for; 2 no lock;
3 the rows deleted not counted; 4 test rows taken for real ones; 5 another cut-off rule, letters moved that are not
final; 6 a chain that ends with a failure; 7 no reference looked for; 8 the older row winning, statuses not granted or
not read again; 10 the files deleted before the move was prepared; 9 a letter's reference in the reason why it stays.
"""

from datetime import timedelta
from uuid import UUID

import pytest

from app import clock
from app.dao import notifications_dao
from app.errors import BadArgument
from app.retention import operations
from app.retention.steps import StepFailed
from tests.factories import days_ago, naive
from tests.integration.night import run_night
from tests.promises.platforms import HISTORY, LIVE, OWN_STATUSES, Platform
from tests.variants import rows
from tests.variants.policies import EMAIL, LETTER, NOT_FINAL, SMS

HOUR, TICK = timedelta(hours=1), timedelta(microseconds=1)
DAYS = {EMAIL: 3, SMS: 5, LETTER: 9}


def deferred(platform: Platform) -> dict[UUID, str]:
    found = platform.run("SELECT notification_id, reason FROM retention.deferred_rows")
    return {row[0]: row[1] for row in found}


def test_1_a_letter_leaves_only_after_every_file_of_it_is_gone(platform):
    service = platform.service()
    if LETTER not in platform.types:
        platform.night()
        assert platform.proxy.lists == 0
        return
    good, bad = platform.create(service, LETTER), platform.create(service, LETTER)
    if not platform.has_files:
        platform.night()
        assert (platform.live, platform.history) == (set(), {good, bad})
        assert (platform.proxy.lists, platform.proxy.deletes) == (0, [])
        return
    second = platform.put_file(bad, days_ago(3))
    platform.proxy.refused_keys[second] = "AccessDenied"
    platform.night()
    assert (platform.live, platform.history) == ({bad}, {good})
    assert platform.files == {second}
    assert deferred(platform) == {bad: "AccessDenied"}
    platform.proxy.refused_keys.clear()
    platform.later()
    assert (platform.live, platform.history, platform.files) == (set(), {good, bad}, set())


def test_2_what_another_holds_is_passed_over_with_its_file_and_the_rest_goes_whole(platform):
    service = platform.service()
    for notification_type in platform.types:
        held, *rest = (platform.create(service, notification_type, days_ago(40 - n)) for n in range(4))
        before = platform.history
        with platform.adopted.owner.begin() as another:
            another.exec_driver_sql("SELECT FROM notifications WHERE id = %(id)s FOR UPDATE", {"id": held})
            files = platform.files
            run_night(notification_type)
        assert platform.live == {held}
        assert platform.history == before | {*rest}
        if notification_type == LETTER and platform.has_files:
            assert platform.files == {platform.key(platform.row(LIVE, held))} < files
        platform.later()
        assert (platform.live, platform.files) == (set(), set())


def test_3_a_row_is_in_exactly_one_table_whatever_stops_a_step(platform):
    service = platform.service()
    ids = {platform.create(service) for _ in range(3)}
    expected = {id_: platform.history_of(platform.row(LIVE, id_)) for id_ in ids}
    platform.run(
        "CREATE FUNCTION keep_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF OLD.id = '{min(ids)}' THEN RETURN NULL; END IF; RETURN OLD; END $$"
    )
    platform.run("CREATE TRIGGER keep_one BEFORE DELETE ON notifications FOR EACH ROW EXECUTE FUNCTION keep_one()")
    try:
        run_night(EMAIL)
        assert (platform.live, platform.history) == ({min(ids)}, ids - {min(ids)})
        assert deferred(platform) == {min(ids): "CountsDiffer"}
    finally:
        platform.run("DROP FUNCTION keep_one CASCADE")
    platform.later()
    assert platform.live == set()
    assert {id_: platform.row(HISTORY, id_) for id_ in platform.history} == expected


def test_4_test_rows_go_without_history_and_only_once_no_real_one_is_left(platform):
    service = platform.service()
    for notification_type in platform.types:
        real = platform.create(service, notification_type, days_ago(20))
        test = platform.create(service, notification_type, days_ago(40), key_type="test")
        held_by_a_locked_row(platform, notification_type, real, test)
        assert platform.live == set()
        assert test not in platform.history
        assert real in platform.history


def held_by_a_locked_row(platform: Platform, notification_type: str, real: UUID, test: UUID) -> None:
    """While somebody holds the real row, the older test row stays as well."""
    with platform.adopted.owner.begin() as another:
        another.exec_driver_sql("SELECT FROM notifications WHERE id = %(id)s FOR UPDATE", {"id": real})
        run_night(notification_type)
        assert platform.live == {real, test}
    platform.later()


def test_5_nothing_at_or_after_the_cutoff_is_touched_nor_a_letter_that_is_not_final(platform):
    days = {notification_type: days for notification_type, days in DAYS.items() if notification_type in platform.types}
    service = platform.service(**days)
    goes, stays = set(), set()
    for notification_type in platform.types:
        cutoff = platform.cutoff(days[notification_type])
        for created_at in (cutoff - HOUR, cutoff - TICK):
            goes.add(platform.create(service, notification_type, created_at))
        for created_at in (cutoff, cutoff + TICK, cutoff + HOUR):
            stays.add(platform.create(service, notification_type, created_at))
    for status in (*NOT_FINAL, *platform.odd_statuses) if LETTER in platform.types else ():
        letter = platform.create(service, LETTER, notification_status=status)
        (goes if status in platform.policy.final else stays).add(letter)
    unsettled = platform.create(service, notification_status="created")
    platform.night()
    assert (platform.live, platform.history) == (stays, goes | {unsettled})


def test_6_a_step_whose_connection_dies_at_the_copy_is_done_again(platform):
    service = platform.service()
    ids = {platform.create(service, notification_type) for notification_type in platform.types for _ in range(2)}
    platform.run("CREATE SEQUENCE deaths")
    platform.run(
        "CREATE FUNCTION die_once() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN "
        "IF nextval('deaths') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NULL; END $$"
    )
    platform.run(
        "CREATE TRIGGER die_once AFTER INSERT ON notification_history FOR EACH STATEMENT EXECUTE FUNCTION die_once()"
    )
    try:
        for notification_type in platform.types:
            platform.run("ALTER SEQUENCE deaths RESTART")
            mine = {id_ for id_ in platform.live if platform.row(LIVE, id_)["notification_type"] == notification_type}
            with pytest.raises(StepFailed, match=r"OperationalError|AdminShutdown"):
                run_night(notification_type)
            assert mine <= platform.live
            assert mine.isdisjoint(platform.history)
            platform.later()
            assert mine <= platform.history
    finally:
        platform.run("DROP FUNCTION die_once CASCADE")
        platform.run("DROP SEQUENCE deaths")
    assert (platform.live, platform.history, platform.files) == (set(), ids, set())


def test_7_one_bad_service_letter_or_reference_stops_nothing_else_and_is_reported(platform, capsys):
    refused, good = platform.service(email=0), platform.service()
    stays = {platform.create(refused)}
    goes = {platform.create(good, notification_type) for notification_type in platform.types}
    for table in platform.policy.referring:
        referred = platform.create(good, SMS)
        rows.create_referring(platform.connection, table, referred)
        (stays if table in platform.policy.deferring else goes).add(referred)
    if platform.has_files:
        broken = platform.create(good, LETTER)
        platform.proxy.refused_keys[platform.key(platform.row(LIVE, broken))] = "AccessDenied"
        stays.add(broken)
    platform.night()
    assert (platform.live, platform.history) == (stays, goes)
    said = capsys.readouterr().out
    assert "retention-refused" in said
    assert ("notifications-referred-to" in said) == bool(platform.policy.deferring)
    assert set(deferred(platform)) == ({broken} if platform.has_files else set())


@pytest.mark.parametrize(("history_is", "wins"), [(timedelta(hours=1), HISTORY), (-HOUR, LIVE), (0 * HOUR, LIVE)])
def test_8_the_newer_of_two_rows_wins_and_a_receipt_finds_what_has_moved(platform, history_is, wins):
    service, changed, created_at = platform.service(), days_ago(20), days_ago(30)
    id_ = platform.create(service, created_at=created_at, updated_at=naive(changed), client_reference="live")
    of_history = {"updated_at": naive(changed + history_is), "client_reference": "kept"}
    rows.create_history(platform.connection, service, id=id_, created_at=created_at, **of_history)
    before = {LIVE: platform.history_of(platform.row(LIVE, id_)), HISTORY: platform.row(HISTORY, id_)}
    platform.night()
    assert (platform.live, platform.row(HISTORY, id_)) == (set(), before[wins])
    assert notifications_dao.update_notification_status(id_, "temporary-failure") == HISTORY
    after = platform.row(HISTORY, id_)
    assert after["notification_status"] == "temporary-failure"
    assert clock.from_column(after["updated_at"]) > changed + HOUR


def test_8_a_receipt_may_have_any_status_of_the_platforms_also_a_new_one_and_no_other(platform):
    service = platform.service()
    live, moved = platform.create(service, created_at=days_ago(1)), platform.create(service)
    platform.night()
    for status in OWN_STATUSES.get(platform.name, ("delivered",)):
        assert notifications_dao.update_notification_status(live, status) == LIVE
        assert notifications_dao.update_notification_status(moved, status) == HISTORY
    new = f"made-up-{live}"
    for id_ in (live, moved):
        with pytest.raises(BadArgument, match="is not a status"):
            notifications_dao.update_notification_status(id_, new)
    if platform.name == "va-notify":
        platform.run("INSERT INTO notification_status_types VALUES (:new)", new=new)
        assert notifications_dao.update_notification_status(moved, new) == HISTORY


def test_9_no_personal_data_in_history_records_or_logs(platform, capsys):
    service = platform.service()
    for notification_type in platform.types:
        platform.create(service, notification_type)
    if platform.has_files:
        broken = platform.row(LIVE, platform.create(service, LETTER))
        platform.proxy.refused_keys[platform.key(broken)] = "AccessDenied"
    platform.night()
    kept = "\n".join(str(platform.row(HISTORY, id_)) for id_ in platform.history)
    assert len(platform.history) == len(platform.types)
    said = capsys.readouterr().out
    assert "fanned-out" in said
    for private in ("someone", "private content", "example.test"):
        assert private not in kept
        assert private not in platform.records() + said
    if platform.has_files:
        assert broken["reference"] not in platform.records() + said


def test_10_the_database_is_asked_first_and_a_refusal_costs_no_file(platform):
    service = platform.service()
    ids = {platform.create(service, notification_type) for notification_type in platform.types for _ in range(4)}
    files = platform.files
    platform.run(f"ALTER TABLE notification_history ADD CONSTRAINT refuses CHECK (service_id <> '{service}') NOT VALID")
    try:
        for notification_type in platform.types:
            run_night(notification_type)
        assert (platform.live, platform.history, platform.files) == (ids, set(), files)
    finally:
        platform.run("ALTER TABLE notification_history DROP CONSTRAINT refuses")
    operations.retry()
    platform.later()
    assert (platform.live, platform.history, platform.files) == (set(), ids, set())
