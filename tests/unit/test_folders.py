"""Where letters are when they are all in one bucket, in folders by the date on which they were sent.

Seen to fail: the local date of sent_at, the date of created_at for a letter that was sent, the day after creation and
the last change left out for one that was not, the limit of folders and one folder more; a place by status, and a test
letter's own place, in one bucket; a key outside of a day's folder, or in another bucket, recognised there.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from app.models.types import STATUSES
from app.storage.folders import MOST_FOLDERS, FolderUnknown
from app.storage.naming import Buckets, Letter, Naming
from app.storage.recognition import recognise

ONE = Naming(Buckets(*["letters"] * 4), ZoneInfo("America/New_York"), in_one_bucket=True, by_date_sent=True)
BY_STATUS = Naming(Buckets("letters", "test-letters", "invalid-pdf", "letters-scan"), ZoneInfo("Europe/London"))
MADE = datetime(2026, 1, 20, 23, 30, tzinfo=UTC)
LETTER = Letter(UUID(int=1), "ab12cd", MADE, "delivered", "normal", "first")
DAY, MICROSECOND = timedelta(days=1), timedelta(microseconds=1)
NAME = "NOTIFY.AB12CD.D.2.C.20260120233000.PDF"


@pytest.mark.parametrize(
    ("sent_at", "folder"),
    [
        ("2026-01-20T23:59:59.999999+00:00", "2026-01-20/"),
        ("2026-01-21T00:00:00+00:00", "2026-01-21/"),
        ("2026-01-20T20:00:00-05:00", "2026-01-21/"),
        ("2026-03-01T17:30:01+00:00", "2026-03-01/"),
    ],
)
def test_a_letter_that_was_sent_is_in_the_folder_of_that_utc_date_alone(sent_at, folder):
    letter = replace(LETTER, sent_at=datetime.fromisoformat(sent_at), updated_at=MADE + 40 * DAY)
    assert list(ONE.folders_of(letter)) == [folder]


@pytest.mark.parametrize(
    ("updated_at", "folders"),
    [
        (None, ["2026-01-20/", "2026-01-21/"]),
        (MADE - DAY, ["2026-01-20/", "2026-01-21/"]),
        (MADE + timedelta(minutes=29), ["2026-01-20/", "2026-01-21/"]),
        (MADE + timedelta(hours=24, minutes=30), ["2026-01-20/", "2026-01-21/", "2026-01-22/"]),
    ],
)
def test_one_that_was_never_sent_may_be_under_each_date_from_its_making_to_its_last_change(updated_at, folders):
    assert list(ONE.folders_of(replace(LETTER, updated_at=updated_at))) == folders


def test_one_that_may_be_in_too_many_folders_is_not_looked_for():
    assert len(ONE.folders_of(replace(LETTER, updated_at=MADE + (MOST_FOLDERS - 1) * DAY))) == MOST_FOLDERS
    with pytest.raises(FolderUnknown):
        ONE.places(replace(LETTER, updated_at=MADE + MOST_FOLDERS * DAY))


@pytest.mark.parametrize("key_type", ["normal", "team", "test"])
@pytest.mark.parametrize("status", [*STATUSES, "pii-check-failed", None])
def test_in_one_bucket_every_letter_has_one_place_whatever_its_status_and_key(status, key_type):
    letter = replace(LETTER, status=status, key_type=key_type, sent_at=MADE)
    assert [(place.bucket, place.prefix) for place in ONE.places(letter)] == [("letters", "2026-01-20/NOTIFY.AB12CD.")]
    assert ONE.buckets_of(status, is_test=key_type == "test") == {"letters"}


@pytest.mark.parametrize("status", [*STATUSES, "pii-check-failed", None])
@pytest.mark.parametrize("key_type", ["normal", "test"])
def test_the_buckets_of_a_status_are_those_of_its_places(status, key_type):
    places = BY_STATUS.places(replace(LETTER, status=status, key_type=key_type))
    assert BY_STATUS.buckets_of(status, is_test=key_type == "test") == {place.bucket for place in places}


def test_by_status_too_a_folder_can_go_by_the_date_on_which_a_letter_was_sent():
    letter = replace(LETTER, sent_at=MADE + DAY, status="technical-failure")
    places = replace(BY_STATUS, by_date_sent=True).places(letter)
    assert [place.prefix for place in places] == ["2026-01-21/NOTIFY.AB12CD.", "ERROR/NOTIFY.AB12CD."]


@pytest.mark.parametrize(
    ("bucket", "folder", "is_a_letters"),
    [
        ("letters", "2026-01-20/", True),
        ("letters", "2026-02-30/", False),
        ("letters", "", False),
        ("letters", "FAILURE/", False),
        ("letters", "ERROR/", False),
        ("test-letters", "2026-01-20/", False),
        ("letters-scan", "FAILURE/", False),
    ],
)
def test_in_one_bucket_only_keys_in_days_folders_are_letters(bucket, folder, is_a_letters):
    found = recognise(ONE, bucket, folder + NAME)
    assert (found is not None) == is_a_letters
    if found is not None:
        sent = replace(LETTER, sent_at=MADE)
        assert (found.place, found.reference) == (ONE.places(sent)[0], "AB12CD")


def test_the_letters_of_a_folder_by_sent_at_were_made_before_it_ended():
    first, second = ONE.made_between("2026-01-20/")
    assert first < MADE - 10_000 * DAY
    assert second == datetime(2026, 1, 21, tzinfo=UTC)
