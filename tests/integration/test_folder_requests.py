"""How many requests a night's letters take, against a server that holds many files and counts.

Seen to fail: without the index (a listing per letter); with a decision that counts one service only; with an index for
every folder, whatever it costs; with a given-up index asked all the same; with a hundred keys in a delete.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import text

from tests.factories import chains as chain_rows
from tests.factories import create_service, naive, steps
from tests.fakes.many_files import ManyFiles, many_files
from tests.integration.night import run_night, until_rows_count_as_old

DAY = date.today() - timedelta(days=30)  # noqa: DTZ011 - any day long past will do
NOON = datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=UTC)
FOLDER = f"{DAY}/"
ALWAYS = 4_000
REST = f"D.2.C.{NOON:%Y%m%d%H%M%S}.PDF"

# As references are: their order has nothing to do with whose letters they are.
LETTERS = text(
    """
    INSERT INTO notifications
        (id, "to", service_id, key_type, notification_type, notification_status, template_id, template_version,
         created_at, updated_at, reference, postage)
    SELECT gen_random_uuid(), 'x', :service, 'normal', 'letter', 'delivered', gen_random_uuid(), 1, :created_at,
           :created_at, upper(left(md5(:salt || i), 16)), 'second'
    FROM generate_series(1, :count) AS i
    RETURNING reference
    """
)


@pytest.fixture
def server() -> Iterator[ManyFiles]:
    with many_files(()) as running:
        yield running


@pytest.fixture
def settings_override(server):
    return {"AWS_ENDPOINT_URL_S3": server.url, "FAN_OUT_SPREAD_SECONDS": "0", "LETTER_FOLDER_INDEX": "true"}


@pytest.fixture
def send(connection, server, settings):
    """So many letters of one day with their files, of a service that keeps letters for so many days."""

    def letters(count: int, days: int = 7) -> None:
        service = create_service(connection, letter=days)
        values = {"service": service, "created_at": naive(NOON), "salt": str(service), "count": count}
        keys = [f"{FOLDER}NOTIFY.{reference}.{REST}" for reference in connection.execute(LETTERS, values).scalars()]
        bucket = server.keys[settings.s3_bucket_letters_pdf]
        bucket.extend(keys)
        bucket.sort()
        until_rows_count_as_old(connection)

    return letters


@pytest.fixture
def left(connection, server, settings):
    """Rows and files that are left."""
    count = text("SELECT count(*) FROM notifications")
    return lambda: (connection.execute(count).scalar(), len(server.keys[settings.s3_bucket_letters_pdf]))


@pytest.fixture(autouse=True)
def many_steps(monkeypatch):
    monkeypatch.setattr("tests.integration.night.MOST_STEPS", 2_000)


def test_many_services_share_one_listing_of_their_folder(app, connection, server, send, left):
    services, letters_each, of_others = 25, 40, 2_500
    for _ in range(services):
        send(letters_each)
    send(of_others, days=ALWAYS)
    run_night()
    pages = -(-(services * letters_each + of_others) // 1_000)
    assert left() == (of_others, of_others)
    assert server.requests["list-type"] == pages  # 100 without the index
    assert server.requests["delete"] == services
    assert {chain["state"] for chain in chain_rows(connection)} == {"ended"}


def test_one_services_letters_of_one_day_take_a_dozen_requests(app, connection, server, send, left):
    send(5_000)
    run_night()
    assert left() == (0, 0)
    assert sum(server.requests.values()) <= 12
    assert server.requests == {"versioning": 1, "list-type": 5, "delete": 5}


def test_a_handful_of_letters_does_not_list_a_large_folder(app, connection, server, send, left):
    for _ in range(3):
        send(1)
    send(4_000, days=ALWAYS)
    run_night()
    assert left() == (4_000, 4_000)
    assert server.requests["list-type"] == 3
    assert connection.execute(text("SELECT count(*) FROM retention.indexed_files")).scalar() == 0


def test_a_folder_that_turns_out_larger_than_its_rows_is_given_up(app, connection, server, send, left, settings):
    """By the rows it is a page for three services; by its files it would be six."""
    for _ in range(3):
        send(2)
    strangers = [f"{FOLDER}NOTIFY.{number:016X}.{REST}" for number in range(6_000)]
    server.keys[settings.s3_bucket_letters_pdf] = sorted([*server.keys[settings.s3_bucket_letters_pdf], *strangers])
    run_night()
    assert left() == (0, 6_000)
    assert server.requests["list-type"] == 2 + 6


class TestSmallSteps:
    @pytest.fixture
    def settings_override(self, server):
        return {
            "AWS_ENDPOINT_URL_S3": server.url,
            "FAN_OUT_SPREAD_SECONDS": "0",
            "LETTER_FOLDER_INDEX": "true",
            "LETTERS_PER_STEP": "500",
        }

    def test_a_service_of_several_steps_lists_its_folder_once(self, connection, server, send, left):
        send(2_000)
        run_night()
        assert left() == (0, 0)
        assert server.requests["list-type"] == 2
        assert [step["files_deleted"] for step in steps(connection)][:5] == [500] * 4 + [0]
