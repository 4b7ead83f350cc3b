"""What `flask retention adopt` says. Looks, in one READ ONLY transaction, and writes nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from sqlalchemy import Connection

from app.adopt import choice, grants, installation, jobs, policy, referring, unseen
from app.config import Settings
from app.dao import (
    catalogue_dao,
    installation_dao,
    preconditions_dao,
    revisions_dao,
    status_function,
    user_sweeps_dao,
)
from app.dao.catalogue import HISTORY, NOTIFICATIONS, WORKERS, Catalogue, Table
from app.dao.copying import Copy, copies
from app.dao.platform import Platform
from app.dao.referring import Plan, plans
from app.db import PlatformTables, db
from app.presets import PRESETS, PresetName
from app.state import preconditions
from app.state.asked import facts
from app.state.findings import Finding, can_run
from app.state.preconditions import Facts

SECONDS_TO_LOOK = 30.0
LETTERS = {
    "by-status": "in four buckets, by their status: docs/architecture.md",
    "one-bucket": "all in the bucket of S3_BUCKET_LETTERS_PDF",
    "no-files": "letters have rows and no files: nothing is looked for in S3",
    "no-letters": "there are no letters: nothing is looked for in S3, and no night looks for any",
}
FOLDERS = {
    "created-at-local": "the local date of created_at, the next day past 17:30",
    "sent-at-utc": "the UTC date of sent_at",
}


@dataclass(frozen=True)
class Adoption:
    """A database as the pipeline would work on it."""

    catalogue: Catalogue
    preset: PresetName | None
    """Whose rules are followed today; None: nobody said."""
    copies: list[Copy]
    stays: list[str]
    """Columns of notifications that are gone once a row is in history."""
    referring: list[Plan]
    policies: list[policy.Policy]
    findings: list[Finding]
    grants: list[str]
    taken_back: list[str]
    """What takes the grants on the platform's tables back again."""
    for_api: list[str]
    """What makes the function by which the platform's API records a status that arrives."""
    letters: str
    """Where letters' files are."""

    @property
    def preset_means(self) -> str:
        """The platform's policies in a sentence."""
        return PRESETS[self.preset].summary if self.preset else "not known, which is something to decide"

    @property
    def can_run(self) -> bool:
        """Whether nothing is missing."""
        return can_run(self.findings)

    def as_json(self) -> dict[str, Any]:
        """For `--json`: names, sentences and numbers; no row's content is in it."""
        return {
            "can_run": self.can_run,
            "database": self.catalogue.database,
            "role": self.catalogue.role,
            "looked_in": self.catalogue.where,
            "preset": self.preset,
            "preset_means": self.preset_means,
            "tables": [_table(self.catalogue.tables[name]) for name in self.catalogue.tables],
            "moves": [
                {
                    "column": copy.column,
                    "expression": copy.expression,
                    "from": copy.from_type.formatted,
                    "to": copy.to_type.formatted,
                    "how": copy.how.value,
                }
                for copy in self.copies
            ],
            "stays_behind": self.stays,
            "referring": [
                {"table": f"{plan.key.schema}.{plan.key.table}", "on_delete": plan.key.on_delete, "action": plan.action}
                for plan in self.referring
            ],
            "letters": self.letters,
            "policies": [
                {
                    "setting": one.setting,
                    "today": _plain(one.today),
                    "configured": _plain(one.configured),
                    "differs": one.differs,
                }
                for one in self.policies
            ],
            "findings": [
                {"level": one.level.value, "about": one.about, "sentence": one.sentence, "fix": one.fix}
                for one in self.findings
            ],
            "grants": self.grants,
            "for_api": self.for_api,
        }


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _table(table: Table) -> dict[str, Any]:
    return {
        "schema": table.schema,
        "table": table.name,
        "columns": len(table.columns),
        "rows": table.rows,
        "bytes": table.bytes,
        "primary_key": table.primary_key,
        "indexes": {index.name: index.columns for index in table.indexes},
    }


def look(settings: Settings, night: date, preset: PresetName | None = None) -> Adoption:
    """Read the catalogue and explain it. `preset`: whose policies the platform follows today, unless the configured."""
    with db.transaction(statement_seconds=SECONDS_TO_LOOK, read_only=True) as connection:
        catalogue = catalogue_dao.read(connection, settings.platform_schema)
        found = replace(
            facts(connection, catalogue, asks_for_itself=False),
            references=tuple(preconditions_dao.references_to_users(connection)),
            sweeps=tuple(user_sweeps_dao.latest_if_readable(connection)),
            vacuuming=preconditions_dao.vacuuming(connection, catalogue.tables.get(NOTIFICATIONS)),
        )
        installed = revisions_dao.is_adopted(connection)
        is_ours = not installed and _is_ours(connection)
    return explain(catalogue, settings, night, preset, installed=installed, is_ours=is_ours, found=found)


def _is_ours(connection: Connection) -> bool:
    """Whether our own migrations made the platform's tables, too."""
    return installation_dao.may_read_revisions(connection) and installation.is_of_single_database(connection)


def explain(
    catalogue: Catalogue,
    settings: Settings,
    night: date,
    preset: PresetName | None = None,
    *,
    installed: bool = False,
    is_ours: bool = False,
    found: Facts | None = None,
) -> Adoption:
    """What the pipeline would do on a database with this catalogue, its own tables beside it or not yet. Pure.

    `found`: the catalogue and what lies around it.
    """
    preset = policy.known(preset, settings, is_ours=is_ours)
    live, history = catalogue.tables.get(NOTIFICATIONS), catalogue.tables.get(HISTORY)
    platform = Platform(catalogue, PlatformTables(settings.platform_schema, settings.tables_deleted_with), stamp="")
    is_whole = platform.is_whole
    stays = [name for name in live.columns if name not in history.columns] if live and history else []
    return Adoption(
        catalogue=catalogue,
        preset=preset,
        copies=copies(catalogue),
        stays=stays,
        referring=plans(catalogue, settings.tables_deleted_with),
        policies=policy.compare(preset, settings),
        findings=list(_findings(found or Facts(catalogue), settings, night, preset)),
        grants=grants.statements(catalogue, settings, WORKERS, installed=installed) if is_whole else [],
        taken_back=grants.taken_back(catalogue, settings, WORKERS) if is_whole else [],
        for_api=status_function.statements(platform, settings.retention_schema) if is_whole else [],
        letters=_letters(settings),
    )


def _letters(settings: Settings) -> str:
    said = LETTERS[settings.letter_files]
    if not settings.letters_have_files:
        return said
    return f"{said}; a letter's folder is {FOLDERS[settings.letter_folder_date]} ({settings.letter_folder_timezone})"


def _findings(found: Facts, settings: Settings, night: date, preset: PresetName | None) -> Iterator[Finding]:
    catalogue = found.catalogue
    yield from preconditions.check(found, settings)
    yield from unseen.check(catalogue)
    yield from choice.check(catalogue, settings)
    yield from referring.check(catalogue, settings)
    yield from policy.check(catalogue, preset, settings, night)
    yield from jobs.check(preset, settings, night)
    yield from grants.check(catalogue, settings)
