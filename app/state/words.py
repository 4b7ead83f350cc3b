"""Statuses, types and key types: which words the pipeline names that the database lacks, and the other way round."""

from collections.abc import Iterator

from app.config import Settings
from app.dao import adoption_sql, letter_statuses
from app.dao.catalogue import NOTIFICATIONS, Catalogue, Column, Table
from app.models.types import LETTER, NOTIFICATION_TYPES, STATUSES, TEST_KEY
from app.state.findings import Finding, look, missing, note


def check(catalogue: Catalogue, settings: Settings) -> Iterator[Finding]:
    """What follows from words that one side has and the other lacks."""
    table = catalogue.tables.get(NOTIFICATIONS)
    if table is None:
        return
    for column in ("notification_type", "key_type", "notification_status"):
        if column in table.columns:
            yield from _enum(table.columns[column])
    if "notification_type" in table.columns:
        yield from _types(catalogue, table, settings)
    yield from _key_types(table.columns.get("key_type"))
    yield from _statuses(catalogue, settings)


def _enum(column: Column) -> Iterator[Finding]:
    """Text compared with an enum is an error in PostgreSQL, and so is a word that the enum lacks."""
    if column.type.is_enum:
        yield note(
            f"{NOTIFICATIONS}.{column.name}",
            f"{column.name} is the enum {column.type.formatted} ({', '.join(column.type.labels or ())}): what it is "
            "compared with is cast to it, and only words that it has are named",
        )


def _types(catalogue: Catalogue, table: Table, settings: Settings) -> Iterator[Finding]:
    """Where neither an enum nor a table says which types there are, the planner's statistics know the usual ones."""
    about, has_letters = f"{NOTIFICATIONS}.notification_type", settings.has_letters
    known = set(catalogue.type_shares if catalogue.types is None else catalogue.types)
    if catalogue.types is None:
        yield note(
            about,
            "which notification types there are is said by no enum, and by no table that this role may read: rows of "
            f"any other than {', '.join(NOTIFICATION_TYPES)} stay for ever",
            f"see that there is none: {adoption_sql.words(table.schema, table.name, 'notification_type')}",
        )
    else:
        for name in NOTIFICATION_TYPES:
            if name not in known and (name != LETTER or has_letters):
                yield look(
                    about,
                    f"there is no notification type {name}, which the pipeline looks for every night",
                    "set LETTER_FILES=no-letters" if name == LETTER else f"there is nothing of type {name} to move",
                )
    if LETTER in known and not has_letters:
        yield note(about, "LETTER_FILES says that there are no letters: rows of type letter would stay for ever")
    for name in sorted(known - set(NOTIFICATION_TYPES)):
        yield look(
            about,
            f"there is a notification type that the pipeline does not know: {name}; its rows stay for ever",
            "see what keeps them",
        )


def _key_types(column: Column | None) -> Iterator[Finding]:
    if column is not None and column.type.labels is not None and TEST_KEY not in column.type.labels:
        yield missing(
            f"{NOTIFICATIONS}.key_type",
            f"the enum of key types lacks {TEST_KEY}, by which test notifications are known",
            "without it nothing says which rows must never reach history",
        )


def _statuses(catalogue: Catalogue, settings: Settings) -> Iterator[Finding]:
    about = f"{NOTIFICATIONS}.notification_status"
    if catalogue.statuses is None:
        yield note(about, "which statuses there are is not known: neither an enum nor a table that this role may read")
        return
    known, statuses = set(catalogue.statuses), letter_statuses.of(settings)
    asked = settings.has_letters and statuses.final is not None
    named = {*(statuses.final or ()), *statuses.unfinished} if asked else set()
    for status in sorted((set(STATUSES) | named) - known):
        if status in named:
            yield note(about, f"there is no status {status}: no letter is in it, and it is left out of comparisons")
        else:
            yield note(about, f"there is no status {status}: no receipt can write it, and nothing else names it")
    for status in sorted(known - set(STATUSES) - named):
        unknown = f"there is a status that the pipeline does not know: {status}"
        if asked:
            yield look(
                about,
                f"{unknown}. A letter in it stays, and is reported",
                "name it in LETTER_STATUSES_FINAL if it is a letter's last, else in LETTER_STATUSES_UNFINISHED",
            )
        else:
            yield note(about, f"{unknown}. No row's status is asked for before it goes")
