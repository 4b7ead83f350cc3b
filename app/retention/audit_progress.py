"""What the parts of an audit share: what they found, and how that and their place come into the records."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from app import clock
from app.dao import audit_dao
from app.dao.audit_dao import Audit, Counts
from app.dao.notifications_dao import LetterRow
from app.retention.letters import letter_of
from app.retention.tools import Tools
from app.storage import object_keys
from app.storage.client import Deadline
from app.storage.folders import FolderUnknown
from app.storage.inventory import StoredKey
from app.storage.naming import AmbiguousReference, Place

OF_HISTORY, OF_NOBODY = "file-of-history", "file-of-nobody"
MISPLACED, WITHIN_RETENTION, UNRECOGNISED = "file-misplaced", "file-within-retention", "file-unrecognised"
WITHOUT_FILE, MIXED_CASE = "row-without-file", "row-in-mixed-case"
WITHOUT_ROW = (OF_HISTORY, OF_NOBODY)


class Overtaken(RuntimeError):
    """Another process has gone on with this audit, or it was abandoned. Nothing of this one's page was written."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: a file or a row, with the row's id where there is one.

    `service_id` is whose the file was, where history knows it.
    """

    kind: str
    stored: StoredKey | None = field(default=None, repr=False)
    notification_id: UUID | None = None
    service_id: UUID | None = None

    def example(self) -> dict[str, Any]:
        """For the record: where a file is, and the digest of its key, which holds a letter's reference."""
        key = self.stored.key if self.stored else None
        return {
            "kind": self.kind,
            "bucket": self.stored.bucket if self.stored else None,
            "folder": _folder(key) if key is not None and self.kind != UNRECOGNISED else None,
            "key_sha256": hashlib.sha256(object_keys.to_bytes(key)).hexdigest() if key is not None else None,
            "last_modified": self.stored.last_modified if self.stored else None,
            "notification_id": self.notification_id,
        }


@dataclass
class Page:
    """What a page of keys came to: letters that have a file, and findings. `young` files are not judged yet."""

    keys: int = 0
    young: int = 0
    letters: set[UUID] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    @property
    def without_row(self) -> list[Finding]:
        """The files that no live row names, and whose time is up."""
        return [finding for finding in self.findings if finding.kind in WITHOUT_ROW]

    def counts(self, deleted: int = 0) -> Counts:
        """For the audit; `deleted` files are gone, and no longer among the findings."""
        kinds = [finding.kind for finding in self.findings]
        return Counts(
            files_seen=self.keys,
            files_without_row=len(self.without_row),
            files_of_history=kinds.count(OF_HISTORY),
            files_within_retention=kinds.count(WITHIN_RETENTION),
            files_young=self.young,
            files_misplaced=kinds.count(MISPLACED),
            unrecognised_files=kinds.count(UNRECOGNISED),
            deleted_files=deleted,
        )


Sink = Callable[[Sequence[Finding]], None]
"""Gets a page's findings before they are written down: those of a page at which a process was killed come again."""


def nobody(_findings: Sequence[Finding]) -> None:
    """For those who want no keys."""


@dataclass(frozen=True)
class Work:
    """What a turn of an audit works with: `tell` gets findings, `watch` the audit after each page. `now` is aware."""

    tools: Tools
    deadline: Deadline
    now: datetime
    tell: Sink
    watch: Callable[[Audit], None] | None = None

    def show(self, audit: Audit) -> None:
        """Let whoever watches see how far it has come."""
        if self.watch:
            self.watch(audit)


@dataclass(frozen=True)
class Stand:
    """How far an audit has come."""

    phase: str
    place: str | None
    position: str | None = None
    finished: bool = False


def places_of(work: Work, row: LetterRow) -> tuple[Place, ...]:
    """Where the letter's files can be; nowhere for a reference that must not be looked for."""
    try:
        return work.tools.naming.places(letter_of(row))
    except (AmbiguousReference, FolderUnknown):
        return ()


def advance(
    connection: Connection, audit: Audit, work: Work, stand: Stand, counts: Counts, findings: Iterable[Finding] = ()
) -> Audit:
    """Write down a page's counts, examples and where it ends. Raises Overtaken. Does not commit."""
    advanced = audit_dao.advance(
        connection,
        audit,
        counts,
        now=clock.now(),
        phase=stand.phase,
        place=stand.place,
        position=stand.position,
        refused=audit.refused,
        finished=stand.finished,
    )
    if advanced is None:
        raise _overtaken(audit)
    _keep_examples(connection, audit, work, list(findings))
    return advanced


def lock(connection: Connection, audit: Audit) -> None:
    """Lock the audit's row until the commit. Raises Overtaken."""
    if not audit_dao.lock(connection, audit):
        raise _overtaken(audit)


def _overtaken(audit: Audit) -> Overtaken:
    return Overtaken(f"another process has gone on with audit {audit.id}, or it was abandoned")


def _keep_examples(connection: Connection, audit: Audit, work: Work, findings: Sequence[Finding]) -> None:
    if not findings:
        return
    most = work.tools.settings.audit_examples
    kept = audit_dao.examples_kept(connection, audit.id)
    examples = []
    for finding in findings:
        kept[finding.kind] = kept.get(finding.kind, 0) + 1
        if kept[finding.kind] <= most:
            examples.append(finding.example())
    if examples:
        audit_dao.keep_examples(connection, audit.id, examples, work.now)


def _folder(key: str) -> str:
    return key[: key.rfind("/") + 1]
