"""The seed: what it promises to the demo and to those who verify it. No server is needed."""

import random
import re
from datetime import UTC, datetime, time, timedelta
from uuid import UUID

import pytest

from dev import seed_cases, seed_ordinary
from dev.letters_pdf import letter_pdf
from dev.seed_model import (
    LONDON,
    Buckets,
    Row,
    Service,
    day_folder,
    file_name,
    stored_files,
)
from dev.seed_ordinary import Source

BUCKETS = Buckets("letters", "test", "invalid", "scan")
NOW = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
# Clocks change in London on 29 March and 25 October 2026.
NIGHTS = [
    NOW,
    datetime(2026, 1, 1, 0, 5, tzinfo=UTC),
    datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
    datetime(2026, 4, 2, 12, tzinfo=UTC),
    datetime(2026, 7, 20, 23, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
    datetime(2028, 2, 29, 12, tzinfo=UTC),
]


def source(now: datetime = NOW) -> Source:
    return Source(random.Random(1), now)


def cases(now: datetime = NOW):
    made = source(now)
    return seed_cases.awkward(made, BUCKETS, seed_ordinary.services(made, 1)[0])


def letter(**columns) -> Row:
    usual = {"id": UUID(int=2), "notification_type": "letter", "service_id": None, "template_id": UUID(int=1)}
    usual |= {"created_at": datetime(2026, 7, 1, 12, tzinfo=UTC), "reference": "ABC", "postage": "first"}
    return Row(**usual | columns)


@pytest.mark.parametrize("line", ["Letter 0123456789ABCDEF", "brackets (and \\ this) stay", "", "naïve – ☃"])
def test_a_letter_is_a_pdf_whose_cross_references_are_right(line):
    pdf = letter_pdf(line)
    assert pdf.startswith(b"%PDF-1.4\n")
    assert pdf.endswith(b"%%EOF\n")
    table = int(re.search(rb"startxref\n(\d+)\n", pdf)[1])
    assert pdf[table:].startswith(b"xref\n0 6\n0000000000 65535 f \n")
    offsets = [int(offset) for offset in re.findall(rb"(\d{10}) 00000 n \n", pdf[table:])]
    assert [pdf[offset:].split(b"\n")[0] for offset in offsets] == [b"%d 0 obj" % n for n in range(1, 6)]
    length, content = re.search(rb"/Length (\d+) >>\nstream\n(.*)\nendstream", pdf, re.DOTALL).groups()
    assert int(length) == len(content)
    assert len(pdf) < 800


def test_brackets_in_a_letter_do_not_end_its_text():
    assert rb"(a \(b\) \\ c) Tj" in letter_pdf("a (b) \\ c")


@pytest.mark.parametrize(
    ("created_at", "folder"),
    [
        (datetime(2026, 1, 15, 17, 30, tzinfo=UTC), "2026-01-15/"),
        (datetime(2026, 1, 15, 17, 30, 0, 1, tzinfo=UTC), "2026-01-16/"),
        (datetime(2026, 7, 15, 16, 30, tzinfo=UTC), "2026-07-15/"),
        (datetime(2026, 7, 15, 16, 30, 1, tzinfo=UTC), "2026-07-16/"),
        (datetime(2026, 7, 14, 23, 30, tzinfo=UTC), "2026-07-15/"),
        (datetime(2026, 12, 31, 18, tzinfo=UTC), "2027-01-01/"),
    ],
)
def test_a_letters_folder_is_its_local_date_or_the_next_after_half_past_five(created_at, folder):
    assert day_folder(created_at) == folder


def test_a_file_is_named_in_capitals_after_reference_postage_and_time():
    at = datetime(2026, 7, 1, 12, 3, 4, 567, tzinfo=UTC)
    assert file_name("abC1", "europe", at) == "NOTIFY.ABC1.D.E.C.20260701120304.PDF"


@pytest.mark.parametrize(
    ("columns", "bucket", "prefix"),
    [
        ({}, "letters", "2026-07-01/"),
        ({"key_type": "test"}, "test", ""),
        ({"notification_status": "validation-failed"}, "invalid", ""),
        ({"notification_status": "virus-scan-failed"}, "scan", "FAILURE/"),
        ({"notification_status": "technical-failure", "id": UUID(int=1)}, "scan", "ERROR/"),
        ({"notification_status": "technical-failure", "id": UUID(int=2)}, "letters", "2026-07-01/"),
        ({"notification_status": None}, "letters", "2026-07-01/"),
    ],
)
def test_a_letters_file_lies_where_its_status_says(columns, bucket, prefix):
    (stored,) = stored_files(letter(**columns), BUCKETS)
    assert stored.place == (bucket, f"{prefix}NOTIFY.ABC.D.1.C.20260701120000.PDF")


@pytest.mark.parametrize("reference", [None, ""])
def test_a_letter_without_a_reference_has_no_file(reference):
    assert stored_files(letter(reference=reference), BUCKETS) == []


def test_every_case_says_what_must_become_of_its_rows():
    made = cases()
    recorded = {expected.case for expected in made.expected}
    assert recorded == {case.__name__ for case in seed_cases.CASES}
    assert [case.__name__ for case in seed_cases.CASES if not case.__doc__] == []
    assert sorted(expected.id for expected in made.expected) == sorted(row.id for row in made.rows)
    assert {expected.outcome for expected in made.expected} == {"moved", "deleted", "stays", "deferred"}


def test_every_file_of_a_case_must_go_or_stay():
    made = cases()
    places = [file.place for file in made.files]
    assert len(set(places)) == len(places)
    gone = {place for expected in made.expected for place in expected.files_gone}
    kept = {place for expected in made.expected for place in expected.files_kept}
    assert gone | kept == set(places)
    assert not gone & kept


@pytest.mark.parametrize("now", NIGHTS)
def test_the_oldest_letters_of_any_night_are_the_test_ones(now):
    letters = [row for row in cases(now).rows if row.notification_type == "letter"]
    oldest = sorted(letters, key=lambda row: row.created_at)[:20]
    assert [row.key_type for row in oldest] == ["test"] * 20
    assert all(row.created_at < now for row in letters if row.notification_status == "delivered")


@pytest.mark.parametrize("now", NIGHTS)
def test_half_past_five_comes_in_winter_and_in_summer_and_is_overdue(now):
    made = cases(now)
    ids = {expected.id for expected in made.expected if expected.case == "half_past_five"}
    letters = [row for row in made.rows if row.id in ids]
    assert {row.created_at.astimezone(LONDON).utcoffset() for row in letters} == {timedelta(), timedelta(hours=1)}
    assert {row.created_at.astimezone(LONDON).time() for row in letters} == {
        time(17, 30),
        time(17, 30, 0, 1),
        time(17, 30, 1),
    }
    assert all(timedelta(days=90) < now - row.created_at < timedelta(days=480) for row in letters)


@pytest.mark.parametrize("now", NIGHTS)
def test_the_cutoff_case_lies_on_local_midnight_a_week_ago(now):
    made = cases(now)
    stays = next(e.id for e in made.expected if e.case == "at_the_cutoff" and e.outcome == "stays")
    at = next(row.created_at for row in made.rows if row.id == stays).astimezone(LONDON)
    assert at.time() == time()
    assert at.date() == now.astimezone(LONDON).date() - timedelta(days=7)


def test_the_largest_service_needs_several_slices_and_most_rows_are_overdue():
    made = source()
    services = seed_ordinary.services(made, 44)
    rows = list(seed_ordinary.messages(made, services, 30_000))
    of_largest = [row for row in rows if row.service_id == services[0].id and row.notification_type == "email"]
    overdue = [row for row in of_largest if NOW - row.created_at > timedelta(days=8)]
    assert len(overdue) > 2 * 1_000
    assert 0.5 < len(overdue) / len(of_largest) < 0.8
    assert {row.service_id for row in rows} == {service.id for service in services}
    assert len({row.created_at.date() for row in rows}) > 14


def test_recipients_are_made_up_and_can_be_looked_for_in_logs():
    made = source()
    services = seed_ordinary.services(made, 3)
    rows = list(seed_ordinary.messages(made, services, 500))
    emails = [row.to for row in rows if row.notification_type == "email"]
    assert len(set(emails)) == len(emails) > 200
    assert all(re.fullmatch(r"user\d+@example\.test", to) for to in emails)
    texts = [row.to for row in rows if row.notification_type == "sms"]
    assert all(re.fullmatch(r"\+447700900\d{3}", to) for to in texts)


def test_letters_without_a_file_are_far_too_few_to_stop_the_pipeline():
    made = source()
    services = seed_ordinary.services(made, 44)
    letters = list(seed_ordinary.letters(made, services, 3_000))
    without = sum(not has_file for _, has_file in letters)
    assert 0 < without < 40
    assert {row.key_type for row, _ in letters} == {"normal", "team", "test"}


def test_a_service_keeps_a_type_for_its_own_days_or_for_seven():
    service = Service(UUID(int=1), "Some", NOW, days={"email": 30})
    assert (service.days_of("email"), service.days_of("sms")) == (30, 7)
