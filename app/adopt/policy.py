"""What a platform does today, as its preset says, beside what is configured: whether adopting keeps data for as long.

Which platform it is can't be read, only guessed from columns that no other has. Where nobody says it, nothing is
compared: our own rules beside our own would always agree.

Every policy that presets know is compared. For the cut-off the nights of a year are gone through, so that an hour that
only shows when the clocks change is found, too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from app.config import Settings
from app.dao.catalogue import NOTIFICATIONS, Catalogue
from app.presets import PRESETS, PresetName
from app.retention.cutoff_rules import Difference, differences
from app.state.findings import Finding, look, note

NIGHTS = 366
OF_THE_CUTOFF = ("cutoff_rule", "retention_timezone")
POLICIES = tuple(sorted({name for preset in PRESETS.values() for name in preset.settings} | set(OF_THE_CUTOFF)))
DAYS_IN_BOTH_TABLES = (
    "SELECT n.service_id, n.notification_type, n.created_at::date, count(*) FROM notifications AS n "
    "WHERE n.created_at >= current_date - 5 AND EXISTS (SELECT FROM notification_history AS h "
    "WHERE h.service_id = n.service_id AND h.notification_type = n.notification_type "
    "AND h.created_at >= n.created_at::date AND h.created_at < n.created_at::date + 1) GROUP BY 1, 2, 3"
)
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


def known(preset: PresetName | None, settings: Settings, *, is_ours: bool) -> PresetName | None:
    """Whose rules are followed today: the preset that is said, or configured, or our own in our own database."""
    is_configured = "platform_preset" in settings.model_fields_set
    return preset or (settings.platform_preset if is_configured or is_ours else None)


def looks_like(catalogue: Catalogue) -> PresetName | None:
    """The platform whose own columns these notifications have."""
    live = catalogue.tables.get(NOTIFICATIONS)
    columns = live.columns.keys() if live is not None else ()
    return next((name for name, one in PRESETS.items() if one.known_by and set(one.known_by) <= set(columns)), None)


def compare(preset: PresetName | None, settings: Settings) -> list[Policy]:
    """Each policy of the platform beside the configured one; none where it is not known which it is."""
    if preset is None:
        return []
    return [Policy(name, value, getattr(settings, name)) for name, value in today(preset).items()]


def cutoff_differences(preset: PresetName, settings: Settings, night: date) -> list[Difference]:
    """The nights of the coming year on which the configured cut-off differs most from the platform's own."""
    before: Mapping[str, Any] = today(preset)
    rules = (
        (before["cutoff_rule"], ZoneInfo(before["retention_timezone"])),
        (settings.cutoff_rule, settings.zone),
    )
    return differences(*rules, settings.retention_default_days, night, NIGHTS)


def check(catalogue: Catalogue, preset: PresetName | None, settings: Settings, night: date) -> Iterator[Finding]:
    """What would change for the platform's data by adopting with these settings."""
    alike = looks_like(catalogue)
    if alike not in (None, preset):
        columns = ", ".join(PRESETS[alike].known_by)
        yield look(
            "PLATFORM_PRESET",
            f"these tables look like {alike}'s, which alone has {columns} in {NOTIFICATIONS}",
            f"set PLATFORM_PRESET={alike}, or say --preset {alike} to compare with it",
        )
    if preset is None:
        yield look(
            "PLATFORM_PRESET",
            "whose rules are followed today is not known, so nothing was compared",
            "set PLATFORM_PRESET, or say --preset",
        )
    else:
        yield from _compared(preset, settings, night)


def _compared(preset: PresetName, settings: Settings, night: date) -> Iterator[Finding]:
    for policy in compare(preset, settings):
        if policy.differs:
            variable = policy.setting.upper()
            yield look(
                variable,
                f"{variable} is {_shown(policy.configured)}, and {preset} does {_shown(policy.today)} today",
                f"set PLATFORM_PRESET={preset}, or {variable} by itself, to keep what the platform does",
            )
    changes = cutoff_differences(preset, settings, night)
    for change in changes:
        yield look(
            "cut-off",
            _sentence(preset, change),
            "make sure that services were told so, or keep the platform's own rule",
        )
    if not changes:
        yield note("cut-off", f"no night of the coming year keeps data longer or shorter than {preset} does today")
    for of_history in PRESETS[preset].changes:
        yield note("history", f"on {preset}, {of_history}")
    if PRESETS[preset].facts_from_history_alone:
        yield look(
            "statistics",
            f"{preset} counts a day of a service and type from history only if no row of that day is left in "
            f"{NOTIFICATIONS}. A row that stays, since it is deferred, on hold or referred to, replaces the day's "
            "figures, for as many days back as they are counted anew",
            f"look for such days after a night: {DAYS_IN_BOTH_TABLES}",
        )
    conflict = PRESETS[preset].history_conflict
    if conflict != "newer":
        yield note(
            "history",
            f"where history has the id already, on {preset} {CONFLICTS[conflict]}; the pipeline: {CONFLICTS['newer']}",
        )


def _sentence(preset: PresetName, change: Difference) -> str:
    longer = change.kept_longer > timedelta()
    return (
        f"on the night of {change.night} a retention of {change.days} days was cut off by {preset} at "
        f"{_time(change.before)} and would be at {_time(change.after)}: data is kept {_hours(abs(change.kept_longer))} "
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
    if isinstance(value, time):
        return f"{value:%H:%M}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {of_name}" for name, of_name in value.items())
    return (", ".join(value) or "none") if isinstance(value, tuple) else str(value)
