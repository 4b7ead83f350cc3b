"""Where a letter's files can be, and which keys are its own."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.storage.naming import AmbiguousReference, Buckets, DatedKey, Letter, Naming, Place, dated_key

LONDON = Naming(Buckets("letters", "test-letters", "invalid-pdf", "letters-scan"), ZoneInfo("Europe/London"))
LETTER = Letter(
    id=UUID(int=1),
    reference="ab12cd",
    created_at=datetime(2026, 1, 20, 12, 0, tzinfo=UTC),
    status="delivered",
    key_type="normal",
    postage="second",
)
PLACE = Place("letters", "2026-01-20/NOTIFY.AB12CD.")
OWN_KEY = "2026-01-20/NOTIFY.AB12CD.D.2.C.20260120120000.PDF"
REST = "D.NEW.C.20260120120000.PDF"
MICROSECOND = timedelta(microseconds=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("created_at", "folder"),
    [
        # Winter: local time is UTC.
        (utc("2026-01-20T00:00:00"), "2026-01-20/"),
        (utc("2026-01-20T17:29:59"), "2026-01-20/"),
        (utc("2026-01-20T17:30:00"), "2026-01-20/"),
        (utc("2026-01-20T17:30:00") + MICROSECOND, "2026-01-21/"),
        (utc("2026-01-20T17:30:01"), "2026-01-21/"),
        (utc("2026-01-20T23:59:59"), "2026-01-21/"),
        # Summer: local time is UTC and an hour.
        (utc("2026-07-20T16:30:00"), "2026-07-20/"),
        (utc("2026-07-20T16:30:01"), "2026-07-21/"),
        (utc("2026-07-20T22:59:59"), "2026-07-21/"),
        (utc("2026-07-20T23:00:00"), "2026-07-21/"),
        # The day that summer time begins: 00:30 is still winter, 17:30 local is 16:30 UTC.
        (utc("2026-03-29T00:30:00"), "2026-03-29/"),
        (utc("2026-03-29T16:30:00"), "2026-03-29/"),
        (utc("2026-03-29T16:30:01"), "2026-03-30/"),
        (utc("2026-03-28T17:30:01"), "2026-03-29/"),
        # The day that it ends: midnight is still summer, 17:30 local is 17:30 UTC.
        (utc("2026-10-24T23:00:00"), "2026-10-25/"),
        (utc("2026-10-25T17:30:00"), "2026-10-25/"),
        (utc("2026-10-25T17:30:01"), "2026-10-26/"),
        (utc("2026-12-31T17:30:01"), "2027-01-01/"),
    ],
)
def test_the_folder_is_the_local_date_and_the_next_one_after_half_past_five(created_at, folder):
    assert LONDON.folder(created_at) == folder


@given(
    created_at=st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    folder=st.dates(datetime(2025, 1, 1).date(), datetime(2027, 1, 1).date()).map("{}/".format),  # noqa: DTZ001
)
def test_a_folders_letters_are_those_made_between_its_borders(created_at, folder):
    for one in (folder, LONDON.folder(created_at)):
        first, second = LONDON.made_between(one)
        assert (first <= created_at < second) is (one == LONDON.folder(created_at))


@pytest.mark.parametrize("folder", ["2026-01-20/", "2026-03-28/", "2026-03-29/", "2026-10-25/", "2026-10-26/"])
def test_the_borders_of_a_folder_are_in_and_out(folder):
    first, second = LONDON.made_between(folder)
    inside = {LONDON.folder(first), LONDON.folder(second - MICROSECOND)}
    assert inside == {folder}
    assert folder not in {LONDON.folder(first - MICROSECOND), LONDON.folder(second)}


@pytest.mark.parametrize(
    ("place", "folder"),
    [
        (Place("letters", "2026-01-20/NOTIFY.AB."), "2026-01-20/"),
        (Place("letters", "NOTIFY.AB."), None),
        (Place("letters", "FAILURE/NOTIFY.AB."), None),
        (Place("test-letters", "2026-01-20/NOTIFY.AB."), None),
    ],
)
def test_only_the_letters_bucket_has_day_folders(place, folder):
    assert LONDON.day_folder(place) == folder


def test_the_folder_follows_the_folders_own_time_zone_and_not_that_of_the_time_given():
    tokyo = replace(LONDON, folder_zone=ZoneInfo("Asia/Tokyo"))
    noon = datetime(2026, 1, 20, 12, 0, tzinfo=ZoneInfo("America/New_York"))  # 02:00 in Tokyo, the 21st
    assert (LONDON.folder(noon), tokyo.folder(noon)) == ("2026-01-20/", "2026-01-21/")


def test_a_time_without_zone_is_refused():
    with pytest.raises(ValueError, match="no time zone"):
        replace(LETTER, created_at=datetime(2026, 1, 20, 12, 0))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("key_type", "status", "places"),
    [
        ("test", "delivered", ["test-letters:NOTIFY.AB12CD."]),
        ("test", "validation-failed", ["test-letters:NOTIFY.AB12CD.", "invalid-pdf:NOTIFY.AB12CD."]),
        ("test", "virus-scan-failed", ["test-letters:NOTIFY.AB12CD.", "letters-scan:FAILURE/NOTIFY.AB12CD."]),
        ("test", "technical-failure", ["test-letters:NOTIFY.AB12CD.", "letters-scan:ERROR/NOTIFY.AB12CD."]),
        ("normal", "validation-failed", ["invalid-pdf:NOTIFY.AB12CD."]),
        (
            "normal",
            "virus-scan-failed",
            ["letters-scan:FAILURE/NOTIFY.AB12CD.", "letters:2026-01-20/NOTIFY.AB12CD."],
        ),
        (
            "team",
            "technical-failure",
            ["letters:2026-01-20/NOTIFY.AB12CD.", "letters-scan:ERROR/NOTIFY.AB12CD."],
        ),
        ("normal", "delivered", ["letters:2026-01-20/NOTIFY.AB12CD."]),
        ("team", "returned-letter", ["letters:2026-01-20/NOTIFY.AB12CD."]),
        ("normal", "permanent-failure", ["letters:2026-01-20/NOTIFY.AB12CD."]),
        ("normal", "Validation-Failed", ["letters:2026-01-20/NOTIFY.AB12CD."]),
        ("normal", None, ["letters:2026-01-20/NOTIFY.AB12CD."]),
    ],
)
def test_a_letters_places_follow_its_key_type_and_status(key_type, status, places):
    letter = replace(LETTER, key_type=key_type, status=status)
    assert [f"{place.bucket}:{place.prefix}" for place in LONDON.places(letter)] == places


@pytest.mark.parametrize(
    ("prefix", "head"),
    [
        ("NOTIFY.AB.", "NOTIFY."),
        ("2026-01-20/NOTIFY.AB.", "2026-01-20/NOTIFY."),
        ("FAILURE/NOTIFY.A-B_C.", "FAILURE/NOTIFY."),
    ],
)
def test_the_head_is_what_a_folders_letters_share(prefix, head):
    assert Place("letters", prefix).head == head


@pytest.mark.parametrize("reference", [None, "", " ", " \t\r\n", "\u00a0\u2003"])
def test_an_empty_reference_has_no_places(reference):
    assert LONDON.places(replace(LETTER, reference=reference)) == ()


@pytest.mark.parametrize(
    "reference",
    [
        *[".", "AB.", "A.B", ".AB", "..", "AB.D.1.C", "../AB"],
        *["/", "A/B", "/AB", "AB/", "\\", "A\\B"],
        *["A B", " AB", "AB ", "AB\n", "\nAB", "A\tB", "A\u00a0B", "A\u200bB"],
        *["A\x00B", "A\x7fB", "A\x1bB", "A\x85B"],
        *["straße", "ß", "ŉ", "ﬁne", "ı", "ſ", "Å", "À", "Ａ", "АВ", "٣", "²", "😀", "\ud800"],
        *["%41", "A%2EB", "A*", "A?", "A+B", "A:B", "A,B", "A~B", "A=B", "A&B", "(A)"],
        *["A" * 129, "A" * 10_000],
    ],
)
def test_a_reference_that_could_reach_another_letters_file_is_ambiguous(reference):
    with pytest.raises(AmbiguousReference) as raised:
        LONDON.places(replace(LETTER, reference=reference))
    assert str(raised.value) == f"reference of letter {LETTER.id}"


@pytest.mark.parametrize(
    ("reference", "upper"),
    [("a", "A"), ("aB-9_z", "AB-9_Z"), ("A" * 128, "A" * 128), ("0", "0"), ("-", "-")],
)
def test_a_safe_reference_is_upper_cased(reference, upper):
    (place,) = LONDON.places(replace(LETTER, reference=reference))
    assert place.prefix == f"2026-01-20/NOTIFY.{upper}."


@pytest.mark.parametrize(
    ("key", "own"),
    [
        (OWN_KEY, True),
        ("2026-01-20/NOTIFY.AB12CD.D.1.C.20260120120000.PDF", True),
        ("2026-01-20/NOTIFY.AB12CD.D.E.C.19991231235959.PDF", True),
        ("2026-01-20/NOTIFY.AB12CD.D.N2.C.20260120120000.PDF", True),
        ("2026-01-20/NOTIFY.AB12CD.D.2.C.C.20260120120000.PDF", True),
        ("2026-01-20/NOTIFY.AB12CD.D.2.C.N.20260120120000.PDF", True),
        # Another letter's.
        ("2026-01-20/NOTIFY.AB12CDE.D.2.C.20260120120000.PDF", False),
        ("2026-01-20/NOTIFY.AB12C.D.2.C.20260120120000.PDF", False),
        ("2026-01-20/NOTIFY.AB12CD.EF.D.2.C.20260120120000.PDF", False),
        ("2026-01-21/NOTIFY.AB12CD.D.2.C.20260120120000.PDF", False),
        ("NOTIFY.AB12CD.D.2.C.20260120120000.PDF", False),
        # Not of the form.
        ("2026-01-20/NOTIFY.AB12CD.", False),
        ("2026-01-20/NOTIFY.AB12CD.PDF", False),
        ("2026-01-20/NOTIFY.AB12CD.D..C.20260120120000.PDF", False),
        ("2026-01-20/NOTIFY.AB12CD.D.2.X.20260120120000.PDF", False),
        ("2026-01-20/NOTIFY.AB12CD.D.2.C.X.20260120120000.PDF", False),
        ("2026-01-20/NOTIFY.AB12CD.D.2.C.C.C.20260120120000.PDF", False),
        ("2026-01-20/NOTIFY.AB12CD.D.2.C.C20260120120000.PDF", False),
        ("2026-01-20/NOTIFY.AB12CD.D.2.C.2026012012000.PDF", False),
        ("2026-01-20/NOTIFY.AB12CD.D.2.C.202601201200000.PDF", False),
        ("2026-01-20/NOTIFY.AB12CD.D.2.C.٢0260120120000.PDF", False),
        ("2026-01-20/NOTIFY.AB12CD.D.2.C.20260120120000.pdf", False),
        ("2026-01-20/NOTIFY.AB12CD.d.2.c.20260120120000.PDF", False),
        ("2026-01-20/NOTIFY.ab12cd.D.2.C.20260120120000.PDF", False),
        ("2026-01-20/NOTIFY.AB12CD.D.2.C.20260120120000.PDF\n", False),
        ("2026-01-20/NOTIFY.AB12CD.D.2.C.20260120120000.PDF.PDF", False),
        ("2026-01-20/NOTIFY.AB12CD.D.2.C.20260120120000/PDF", False),
        ("X2026-01-20/NOTIFY.AB12CD.D.2.C.20260120120000.PDF", False),
    ],
)
def test_a_letters_own_keys_have_its_prefix_and_the_whole_form(key, own):
    assert LONDON.is_file_of(key, PLACE) is own


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({}, OWN_KEY),
        ({"postage": "first"}, "2026-01-20/NOTIFY.AB12CD.D.1.C.20260120120000.PDF"),
        ({"postage": "europe"}, "2026-01-20/NOTIFY.AB12CD.D.E.C.20260120120000.PDF"),
        ({"postage": "rest-of-world"}, "2026-01-20/NOTIFY.AB12CD.D.N.C.20260120120000.PDF"),
        ({"postage": "economy"}, "2026-01-20/NOTIFY.AB12CD.D.3.C.20260120120000.PDF"),
        ({"postage": None}, "2026-01-20/NOTIFY.AB12CD.D.2.C.20260120120000.PDF"),
        ({"key_type": "test"}, "NOTIFY.AB12CD.D.2.C.20260120120000.PDF"),
        ({"status": "virus-scan-failed"}, "FAILURE/NOTIFY.AB12CD.D.2.C.20260120120000.PDF"),
        # The folder is local and a day on, the time stamp is UTC.
        (
            {"created_at": datetime(2026, 7, 20, 23, 30, 5, tzinfo=ZoneInfo("Europe/London"))},
            "2026-07-21/NOTIFY.AB12CD.D.2.C.20260720223005.PDF",
        ),
    ],
)
def test_the_sending_side_writes_this_key(changes, key):
    assert LONDON.key(replace(LETTER, **changes)) == key


def test_a_letter_without_reference_has_no_key():
    with pytest.raises(ValueError, match="no reference"):
        LONDON.key(replace(LETTER, reference=None))


def test_a_letter_shows_no_reference_in_its_repr():
    assert "ab12cd" not in repr(LETTER)


STATUSES = ["delivered", "validation-failed", "virus-scan-failed", "technical-failure", None]
letters = st.builds(
    Letter,
    id=st.uuids(),
    # Few characters, so that one reference is often the beginning of another.
    reference=st.text("abAB0-_", min_size=1, max_size=4),
    # Around the start of summer time, to the half second.
    created_at=st.integers(0, 4 * 86_400 * 2).map(
        lambda half_seconds: utc("2026-03-27T00:00:00") + timedelta(seconds=half_seconds / 2)
    ),
    status=st.sampled_from(STATUSES),
    key_type=st.sampled_from(["normal", "team", "test"]),
    postage=st.sampled_from(["first", "second", "europe", "rest-of-world", "economy", None]),
)


@given(letters, letters)
def test_a_letters_key_is_never_in_the_place_of_another_reference(one, other):
    assume(one.reference.upper() != other.reference.upper())
    key = LONDON.key(one)
    assert not any(LONDON.is_file_of(key, place) for place in LONDON.places(other))


@given(letters)
def test_a_letters_key_is_in_its_first_place_and_in_no_other_of_its_places(letter):
    first, *others = LONDON.places(letter)
    assert LONDON.is_file_of(LONDON.key(letter), first)
    # The same name in another bucket is another place, and its key is the same.
    assert [LONDON.is_file_of(LONDON.key(letter), place) for place in others] == [
        place.prefix == first.prefix for place in others
    ]


@given(st.text(min_size=1))
def test_any_text_is_safe_or_refused_or_empty(reference):
    letter = replace(LETTER, reference=reference)
    try:
        places = LONDON.places(letter)
    except AmbiguousReference:
        return
    assert not places or places[0].prefix.count(".") == 2
    assert all(place.prefix.isascii() and place.prefix.count("/") == 1 for place in places)


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        (OWN_KEY, DatedKey("2026-01-20/", "AB12CD", "D.2.C.20260120120000.PDF")),
        ("2026-01-20/NOTIFY.A_-9." + REST, DatedKey("2026-01-20/", "A_-9", REST)),
        ("NOTIFY.AB12CD.D.2.C.20260120120000.PDF", None),
        ("OLD/" + OWN_KEY, None),
        (OWN_KEY + ".OLD", None),
        (OWN_KEY + "\n", None),
        ("2026-01-20/NOTIFY.ab12cd.D.2.C.20260120120000.PDF", None),
        ("2026-01-20/NOTIFY..D.2.C.20260120120000.PDF", None),
        ("2026-01-20/NOTIFY.AB.CD.D.2.C.20260120120000.PDF", None),
    ],
)
def test_a_key_in_a_days_folder_has_three_parts(key, parts):
    assert dated_key(key) == parts


@given(
    reference=st.text("AB9_-.", min_size=1, max_size=4),
    rest=st.sampled_from(["D.2.C.20260120120000.PDF", "D.2.C.2026.PDF", "D.2.C.20260120120000.PDF.OLD", ""]),
    wanted=st.text("AB9_-", min_size=1, max_size=4),
)
def test_a_key_has_parts_exactly_where_it_is_a_file_of_some_letter(reference, rest, wanted):
    place = Place("letters", f"2026-01-20/NOTIFY.{wanted}.")
    key = f"2026-01-20/NOTIFY.{reference}.{rest}"
    parts = dated_key(key)
    assert LONDON.is_file_of(key, place) is (parts is not None and parts.reference == wanted)
    assert parts is None or key == f"{parts.folder}NOTIFY.{parts.reference}.{parts.rest}"
