"""The awkward cases: each a small function that says what must become of its rows and files.

Unless a case says otherwise, its row belongs to a service with the default retention and was delivered 20
days ago. They are checked one by one after a run, by the ids and the file names that are recorded here.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta
from uuid import UUID

from dev.seed_casebook import Cases, new_service, touched
from dev.seed_model import (
    DEFAULT_DAYS,
    LONDON,
    Buckets,
    Service,
    StoredFile,
    day_folder,
    file_name,
    stored_files,
)
from dev.seed_ordinary import Source

INSTANT = timedelta(microseconds=1)
EQUAL_LETTERS, EQUAL_EMAILS = 130, 650  # more than a step of the demo, so that a step ends among them
OLDEST_DAYS = 500


def one_reference_begins_another(cases: Cases) -> None:
    """The shorter one's letter moves with its file; the longer one's, still being sent, keeps its own."""
    cases.letter("moved", reference="PREFIX1")
    cases.letter("stays", reference="PREFIX12", notification_status="sending")
    cases.letter("stays", reference="PREFIX1A", notification_status="sending")


def one_reference_begins_another_test(cases: Cases) -> None:
    """The same in the bucket of test letters, which has no folders: a new letter's file stays."""
    cases.letter("deleted", reference="PREFIX2", key_type="test")
    cases.letter("stays", reference="PREFIX22", key_type="test", created_at=cases.days_ago(2))


def two_files(cases: Cases) -> None:
    """Both go, not only the first that is found."""
    row = cases.unsaved_letter()
    folder, name = day_folder(row.created_at), file_name(row.reference or "", "first", row.created_at)
    own = stored_files(replace(row, postage="second"), cases.buckets)
    own.append(StoredFile(cases.buckets.letters, folder + name, "The same letter, made again"))
    cases.letter("moved", files=own, id=row.id, reference=row.reference, postage="second")


def postage_changed(cases: Cases) -> None:
    """The file still has the class of the old postage; it goes."""
    row = cases.unsaved_letter(postage="second")
    files = stored_files(row, cases.buckets)
    cases.letter("moved", files=files, id=row.id, reference=row.reference, postage="first")


def other_time_stamp(cases: Cases) -> None:
    """A precompiled letter's file has the time of its upload in its name; it goes."""
    row = cases.unsaved_letter()
    later = row.created_at + timedelta(minutes=3)
    name = file_name(row.reference or "", "second", later)
    files = [StoredFile(cases.buckets.letters, day_folder(row.created_at) + name, "Precompiled")]
    cases.letter("moved", files=files, id=row.id, reference=row.reference)


def no_file(cases: Cases) -> None:
    """Moves all the same: a letter without a file is no error."""
    cases.letter("moved", files=())


def no_reference(cases: Cases) -> None:
    """Moves: nothing names a file."""
    cases.letter("moved", reference=None)


def empty_reference(cases: Cases) -> None:
    """Moves, and takes neither a nameless file nor the files of others that lie beside it."""
    row = cases.letter("moved", reference="")
    folder = day_folder(row.created_at)
    nameless = StoredFile(cases.buckets.letters, folder + file_name("", "second", row.created_at))
    cases.bystanders(nameless)
    cases.letter("stays", reference="BESIDEEMPTY", notification_status="created")


def half_past_five(cases: Cases) -> None:
    """17:30:00 belongs to its own day's folder, what comes after to the next day's; in winter and summer."""
    for month in (1, 7):
        day = _last(month, cases.source.now)
        for at in (time(17, 30), time(17, 30, 0, 1), time(17, 30, 1)):
            cases.letter("moved", created_at=cases.local(day, at))


def after_midnight_in_summer(cases: Cases) -> None:
    """00:30 local in July is the day before in UTC; the folder follows the local date."""
    cases.letter("moved", created_at=cases.local(_last(7, cases.source.now), time(0, 30)))


def validation_failed(cases: Cases) -> None:
    """Its file is in the bucket of invalid PDFs."""
    cases.letter("moved", notification_status="validation-failed")


def virus_scan_failed(cases: Cases) -> None:
    """Its file is in the scan's FAILURE folder; one in the letters' bucket goes as well."""
    cases.letter("moved", notification_status="virus-scan-failed")
    _in_both_places(cases, "virus-scan-failed")


def technical_failure(cases: Cases) -> None:
    """Its files are in the letters' bucket, in the scan's ERROR folder, or in both."""
    even = UUID(int=cases.source.uuid().int & ~1)  # the parity says which place: see `stored_files`
    for identifier in (even, UUID(int=even.int | 1)):
        cases.letter("moved", notification_status="technical-failure", id=identifier)
    _in_both_places(cases, "technical-failure")


def not_final(cases: Cases) -> None:
    """Stays with its file, however old."""
    for status in ("pending-virus-check", "created", "pending", "sending", None):
        cases.letter("stays", notification_status=status)


def no_status(cases: Cases) -> None:
    """A message moves whatever its status, so without one, too."""
    cases.message("moved", notification_status=None)
    cases.message("moved", kind="sms", notification_status=None)


def unfinished_messages(cases: Cases) -> None:
    """Only letters wait for their end: a message that is still being sent moves."""
    for status in ("created", "sending", "pending"):
        cases.message("moved", notification_status=status)


def oldest_test_letters(cases: Cases) -> None:
    """20 test letters, older than all real ones, are deleted, and keep no real one from being chosen."""
    for minute in range(20):
        cases.letter("deleted", key_type="test", created_at=cases.days_ago(OLDEST_DAYS, time(9, minute)))


def test_letter_not_final(cases: Cases) -> None:
    """Stays with its file, like a real one."""
    for status in ("created", "sending", "pending-virus-check", None):
        cases.letter("stays", key_type="test", notification_status=status)


def test_messages(cases: Cases) -> None:
    """Deleted; never seen in history."""
    for kind in ("email", "sms"):
        cases.message("deleted", kind=kind, key_type="test")


def team_key(cases: Cases) -> None:
    """Made with a team key, so real: moves."""
    cases.message("moved", key_type="team")
    cases.letter("moved", key_type="team")


def equal_times(cases: Cases) -> None:
    """More rows of one instant than a step takes: each moves once."""
    at = cases.days_ago(15)
    for _ in range(EQUAL_LETTERS):
        cases.letter("moved", created_at=at)
    for _ in range(EQUAL_EMAILS):
        cases.message("moved", created_at=at, service_id=cases.largest.id)


def at_the_cutoff(cases: Cases) -> None:
    """Local midnight itself is not past the cut-off; the instant before it is."""
    midnight = cases.days_ago(DEFAULT_DAYS, time())
    cases.message("stays", created_at=midnight)
    cases.message("moved", created_at=midnight - INSTANT)
    cases.letter("stays", created_at=midnight)
    cases.letter("moved", created_at=midnight - INSTANT)


def already_in_history(cases: Cases) -> None:
    """The newer of the two wins with all its columns, the live row on a tie; the live row goes anyway."""
    for hours, updated in ((-30, True), (0, True), (30, True), (-30, False), (30, False)):
        live = cases.message("moved")
        if not updated:
            live.updated_at = None
        other = touched(live) + timedelta(hours=hours)
        cases.into_history(live, notification_status="temporary-failure", updated_at=other)


def letter_already_in_history(cases: Cases) -> None:
    """As with messages, and the file goes, whichever of the rows wins."""
    for hours in (-30, 30):
        live = cases.letter("moved")
        other = touched(live) + timedelta(hours=hours)
        cases.into_history(live, notification_status="returned-letter", updated_at=other)


def dot_in_reference(cases: Cases) -> None:
    """Deferred with a reason, row and file untouched, as is the file of the letter that it could reach."""
    cases.letter("deferred", reference="DOTTED.D")
    cases.letter("deferred", reference="DOTTED.T", key_type="test")
    cases.letter("stays", reference="DOTTED", notification_status="sending")


def slash_in_reference(cases: Cases) -> None:
    """Deferred with a reason, too."""
    cases.letter("deferred", reference="SLASH/ED")


def files_that_only_look_alike(cases: Cases) -> None:
    """The letter moves with its file. What merely begins like it is not a letter's file and stays."""
    row = cases.letter("moved", reference="LOOKALIKE")
    folder = day_folder(row.created_at)
    names = ("NOTIFY.LOOKALIKE.TXT", "NOTIFY.LOOKALIKE.D.2.C.20260101.PDF", "NOTIFY.LOOKALIKE.X.D.2.PDF")
    cases.bystanders(
        *(StoredFile(cases.buckets.letters, folder + name) for name in names),
        StoredFile(cases.buckets.letters, f"{folder}NOTIFY.LOOKALIKES.D.2.C.20260101120000.PDF"),
        StoredFile(cases.buckets.letters, f"{folder}NOTIFY.LOOKALIKE.D.2.C.20260101120000.PDF.BAK"),
        StoredFile(cases.buckets.letters, f"1999-12-31/{file_name('LOOKALIKE', 'second', row.created_at)}"),
        StoredFile(cases.buckets.invalid, file_name("LOOKALIKE", "second", row.created_at)),
    )


def zero_days(cases: Cases) -> None:
    """A retention of 0 days is refused: its rows stay; another type of the same service moves."""
    _refused(cases, cases.service("Keeps nothing", email=0, letter=0))


def negative_days(cases: Cases) -> None:
    """A retention of -1 days is refused: its rows stay; another type of the same service moves."""
    _refused(cases, cases.service("Keeps less than nothing", email=-1, letter=-1))


def long_retention(cases: Cases) -> None:
    """A year is a year: what is younger stays, what is older moves."""
    keeper = cases.service("Keeps for a year", email=365, letter=365)
    younger, older = cases.days_ago(350), cases.days_ago(380)
    cases.message("stays", service_id=keeper.id, created_at=younger)
    cases.letter("stays", service_id=keeper.id, created_at=younger)
    cases.message("moved", service_id=keeper.id, created_at=older)
    cases.letter("moved", service_id=keeper.id, created_at=older)


def no_service(cases: Cases) -> None:
    """Nobody's rows are never touched, nor are their files."""
    cases.message("stays", service_id=None)
    cases.message("stays", kind="sms", service_id=None)
    cases.letter("stays", service_id=None)


CASES: tuple[Callable[[Cases], None], ...] = (
    one_reference_begins_another,
    one_reference_begins_another_test,
    two_files,
    postage_changed,
    other_time_stamp,
    no_file,
    no_reference,
    empty_reference,
    half_past_five,
    after_midnight_in_summer,
    validation_failed,
    virus_scan_failed,
    technical_failure,
    not_final,
    no_status,
    unfinished_messages,
    oldest_test_letters,
    test_letter_not_final,
    test_messages,
    team_key,
    equal_times,
    at_the_cutoff,
    already_in_history,
    letter_already_in_history,
    dot_in_reference,
    slash_in_reference,
    files_that_only_look_alike,
    zero_days,
    negative_days,
    long_retention,
    no_service,
)


def awkward(
    source: Source, buckets: Buckets, largest: Service, made: Sequence[Callable[[Cases], None]] = CASES
) -> Cases:
    """The cases, with their services. Without cases, nothing."""
    usual = new_service(source, "Awkward cases", {})
    cases = Cases(source, buckets, usual, largest, services=[usual] if made else [])
    for make in made:
        cases.case = make.__name__
        make(cases)
    return cases


def _in_both_places(cases: Cases, status: str) -> None:
    row = cases.unsaved_letter(notification_status=status)
    folder = {"virus-scan-failed": "FAILURE/", "technical-failure": "ERROR/"}[status]
    name = file_name(row.reference or "", row.postage, row.created_at)
    files = [
        StoredFile(cases.buckets.scan, folder + name),
        StoredFile(cases.buckets.letters, day_folder(row.created_at) + name),
    ]
    cases.letter("moved", files=files, reference=row.reference, postage=row.postage, notification_status=status)


def _refused(cases: Cases, service: Service) -> None:
    just_now = cases.source.now - timedelta(minutes=1)
    for at in (just_now, cases.days_ago(20), cases.days_ago(200)):
        cases.message("stays", service_id=service.id, created_at=at)
        cases.letter("stays", service_id=service.id, created_at=at)
    cases.message("moved", kind="sms", service_id=service.id)


def _last(month: int, now: datetime) -> datetime:
    """The 15th of the month, the last one that is at least 100 days ago."""
    day = now.astimezone(LONDON).replace(month=month, day=15, hour=12)
    return day if now - day >= timedelta(days=100) else day.replace(year=day.year - 1)
