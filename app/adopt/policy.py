"""What a platform does today, as its preset says, beside what is configured: whether adopting keeps data for as long.

Every policy that presets know is compared. For the cut-off the nights of a year are gone through, so that an hour that
only shows when the clocks change is found, too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from app.adopt.findings import Finding, look, note
from app.config import Settings
from app.presets import PRESETS, PresetName
from app.retention.cutoff_rules import Difference, differences

NIGHTS = 366
OF_THE_CUTOFF = ("cutoff_rule", "retention_timezone")
POLICIES = tuple(sorted({name for preset in PRESETS.values() for name in preset.settings} | set(OF_THE_CUTOFF)))
CONFLICTS = {
    "keep": "the row that is in history stays as it is",
    "update": "the row that moves overwrites the one in history",
    "newer": "the newer of the two wins",
}


@dataclass(frozen=True)
class Policy:
    """A policy: what the platform's preset says and what is configured."""

    setting: str
    today: Any
    configured: Any

    @property
    def differs(self) -> bool:
        return bool(self.today != self.configured)


def today(preset: PresetName) -> dict[str, Any]:
    """The value of each policy under a preset alone."""
    return {name: PRESETS[preset].settings.get(name, Settings.model_fields[name].default) for name in POLICIES}


def compare(preset: PresetName, settings: Settings) -> list[Policy]:
    """Each policy of the platform beside the configured one."""
    return [Policy(name, value, getattr(settings, name)) for name, value in today(preset).items()]


def cutoff_differences(preset: PresetName, settings: Settings, night: date) -> list[Difference]:
    """The nights of the coming year on which the configured cut-off differs most from the platform's own."""
    before: Mapping[str, Any] = today(preset)
    rules = (
        (before["cutoff_rule"], ZoneInfo(before["retention_timezone"])),
        (settings.cutoff_rule, settings.zone),
    )
    return differences(*rules, settings.retention_default_days, night, NIGHTS)


def check(preset: PresetName, settings: Settings, night: date) -> Iterator[Finding]:
    """What would change for the platform's data by adopting with these settings."""
    for policy in compare(preset, settings):
        if policy.differs:
            variable = policy.setting.upper()
            yield look(
                variable,
                f"{variable} is {_shown(policy.configured)}, and platform {preset} does {_shown(policy.today)} today",
                f"set PLATFORM_PRESET={preset}, or {variable} by itself, to keep what the platform does",
            )
    changes = cutoff_differences(preset, settings, night)
    for change in changes:
        yield look(
            "cut-off", _sentence(change), "make sure that services were told so, or keep the platform's own rule"
        )
    if not changes:
        yield note("cut-off", "no night of the coming year keeps data longer or shorter than before")
    conflict = PRESETS[preset].history_conflict
    if conflict != "newer":
        yield note(
            "history",
            f"where history has the id already, today {CONFLICTS[conflict]}; the pipeline: {CONFLICTS['newer']}",
        )


def _sentence(change: Difference) -> str:
    longer = change.kept_longer > timedelta()
    return (
        f"on the night of {change.night} a retention of {change.days} days was cut off at {_time(change.before)} and "
        f"would be at {_time(change.after)}: data is kept {_hours(abs(change.kept_longer))} "
        f"{'longer' if longer else 'shorter'} than before"
    )


def _time(instant: Any) -> str:
    return str(instant.strftime("%Y-%m-%d %H:%M:%S.%f").removesuffix(".000000")) + " UTC"


def _hours(span: timedelta) -> str:
    """A day and a microsecond less is a day to anybody."""
    minutes = round(span.total_seconds() / 60)
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((days, "day"), (hours, "hour"), (minutes, "minute"))
    return " and ".join(f"{count} {unit}" + ("s" if count > 1 else "") for count, unit in parts if count) or "a moment"


def _shown(value: Any) -> str:
    if value is None:
        return "off"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {of_name}" for name, of_name in value.items())
    return (", ".join(value) or "none") if isinstance(value, tuple) else str(value)
