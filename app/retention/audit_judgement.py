"""Whose a file is: a letter's own, or one of a few kinds that are none's. In doubt it is not called an orphan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from app.config import Settings
from app.dao import audit_dao
from app.dao.audit_dao import HistoryRow
from app.dao.notifications_dao import LetterRow
from app.models.types import LETTER
from app.retention.audit_progress import (
    MISPLACED,
    OF_HISTORY,
    OF_NOBODY,
    UNRECOGNISED,
    WITHIN_RETENTION,
    Finding,
    Page,
    Work,
    places_of,
)
from app.retention.cutoffs import cutoff, cutoff_of_days, date_to_count_from
from app.storage.inventory import StoredKey
from app.storage.recognition import NamedFile, recognise

LiveRows = Mapping[str, Sequence[tuple[LetterRow, bool]]]
HistoryRows = Mapping[str, Sequence[HistoryRow]]


@dataclass(frozen=True)
class Rules:
    """A file of `young_from` or later is not judged; one of nobody's must be older than the longest retention."""

    settings: Settings
    night: date
    young_from: datetime
    longest_cutoff: datetime

    def is_up(self, row: HistoryRow) -> bool:
        """Whether the time of a letter in history is up, by what its service's retention says now."""
        days = self.settings.retention_default_days if row.days is None else row.days
        return days > 0 and row.created_at < cutoff(self.night, days, self.settings)


def rules(connection: Connection, settings: Settings, now: datetime) -> Rules:
    """The rules at a moment (aware)."""
    night = date_to_count_from(now, settings)
    cutoffs = cutoff_of_days(connection, settings, LETTER, night)
    return Rules(settings, night, now - timedelta(hours=settings.audit_margin_hours), min(cutoffs.values()))


def judge(connection: Connection, keys: Sequence[StoredKey], rules: Rules, work: Work) -> Page:
    """Each key with the rows that have its reference, looked up in bulk. Writes nothing."""
    named = {one.key: recognise(work.tools.naming, one.bucket, one.key) for one in keys}
    references = {name.reference for name in named.values() if name}
    live = audit_dao.live_rows(connection, references) if references else {}
    history = audit_dao.history_rows(connection, references - live.keys()) if references - live.keys() else {}
    page = Page(keys=len(keys))
    for stored in keys:
        name = named[stored.key]
        if name is not None and (letters := _owners(name, live, work)):
            page.letters |= letters
        elif _is_young(stored, name, rules):
            page.young += 1
        else:
            page.findings.append(_finding(stored, name, live, history, rules))
    return page


def _owners(name: NamedFile, live: LiveRows, work: Work) -> set[UUID]:
    """Live letters that look for this very file."""
    return {
        row.id for row, is_letter in live.get(name.reference, ()) if is_letter and name.place in places_of(work, row)
    }


def _is_young(stored: StoredKey, name: NamedFile | None, rules: Rules) -> bool:
    """Its letter may just be being made, or moved from one place to another."""
    made_at = name.made_at if name else None
    return max(stored.last_modified, made_at or stored.last_modified) >= rules.young_from


def _finding(stored: StoredKey, name: NamedFile | None, live: LiveRows, history: HistoryRows, rules: Rules) -> Finding:
    if name is None:
        return Finding(UNRECOGNISED, stored)
    if name.reference in live:
        row, _ = live[name.reference][0]
        return Finding(MISPLACED, stored, row.id)
    if name.reference in history:
        rows = history[name.reference]
        kept = next((row for row in rows if not rules.is_up(row)), None)
        known = kept or rows[0]
        return Finding(WITHIN_RETENTION if kept else OF_HISTORY, stored, known.id, known.service_id)
    is_up = (name.made_at or stored.last_modified) < rules.longest_cutoff
    return Finding(OF_NOBODY if is_up else WITHIN_RETENTION, stored)
