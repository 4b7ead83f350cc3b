"""A preset gives its values to what the environment leaves unset, and to nothing else.

Seen to fail: the preset put over what is set instead of beneath it, `missing_files_share` left on where there are no
files, a rule of b's made c's, an unknown preset taken for our own, the JSON of the new settings read as text; a bucket
needed that is not looked into, and one that is looked into left unset.
"""

from zoneinfo import ZoneInfo

import pytest

from app import config
from app.models.types import STATUSES
from app.presets import FINAL, PRESETS, UNFINISHED
from tests.unit.test_config import NEEDED, load


@pytest.mark.parametrize(
    ("preset", "rule", "files", "share", "any_status"),
    [
        (None, "local-midnight", "by-status", 0.2, False),
        ("own", "local-midnight", "by-status", 0.2, False),
        ("govuk-notify", "local-midnight", "by-status", 0.2, False),
        ("gc-notify", "utc-end-of-day", "no-files", None, True),
        ("us-notify", "utc-midnight", "no-letters", None, False),
        ("va-notify", "local-midnight-then-days", "one-bucket", 0.2, True),
    ],
)
def test_a_preset_is_what_its_platform_does(preset, rule, files, share, any_status):
    settings = load(**({} if preset is None else {"PLATFORM_PRESET": preset}))
    assert (settings.cutoff_rule, settings.letter_files, settings.missing_files_share) == (rule, files, share)
    assert settings.letters_in_any_status == any_status
    assert settings.test_letters_in_any_status == (preset == "govuk-notify")
    assert settings.referring_rows == {}


def test_letters_of_va_notify_are_found_by_the_utc_date_on_which_they_were_sent():
    settings = load(PLATFORM_PRESET="va-notify")
    assert (settings.letter_folder_date, settings.folder_zone) == ("sent-at-utc", ZoneInfo("UTC"))
    assert set(settings.letter_postage_classes.values()) == {"2"}
    assert load().letter_folder_date == "created-at-local"


def test_what_is_set_by_itself_counts_before_the_preset():
    settings = load(
        PLATFORM_PRESET="gc-notify", CUTOFF_RULE="utc-midnight", MISSING_FILES_SHARE="0.5", LETTER_FILES=" "
    )
    assert (settings.cutoff_rule, settings.missing_files_share, settings.letter_files) == (
        "utc-midnight",
        0.5,
        "no-files",
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_every_value_of_a_preset_is_one_that_the_setting_takes_and_not_its_default(preset):
    own, given = load(), load(PLATFORM_PRESET=preset)
    for name in PRESETS[preset].settings:
        assert getattr(given, name) != getattr(own, name), f"{name} need not be in the preset"
    changed = {name for name in config.Settings.model_fields if getattr(given, name) != getattr(own, name)}
    assert changed - {"platform_preset"} == set(PRESETS[preset].settings)


@pytest.mark.parametrize(
    ("variable", "value", "because"),
    [
        ("PLATFORM_PRESET", "a", "Input should be 'own', 'govuk-notify', 'gc-notify', 'us-notify' or 'va-notify'"),
        ("CUTOFF_RULE", "noon", "Input should be 'local-midnight'"),
        ("LETTER_FILES", "everywhere", "Input should be 'by-status'"),
        ("LETTER_STATUSES_FINAL", "created, sending", "Input should be a valid tuple"),
        ("REFERRING_ROWS", '{"scheduled_notifications": "ignore"}', "Input should be 'defer' or 'delete'"),
        ("PLATFORM_SCHEMA", "x" * 64, "at most 63"),
    ],
)
def test_a_policy_that_there_is_not_is_refused_by_its_name(variable, value, because):
    with pytest.raises(config.SettingsError, match=f"{variable} is wrong: .*{because}"):
        config.load({**NEEDED, variable: value})


@pytest.mark.parametrize(
    ("letter_files", "needed"),
    [
        (None, ["LETTERS_PDF", "TEST_LETTERS", "INVALID_PDF", "LETTERS_SCAN"]),
        ("by-status", ["LETTERS_PDF", "TEST_LETTERS", "INVALID_PDF", "LETTERS_SCAN"]),
        ("one-bucket", ["LETTERS_PDF"]),
        ("no-files", []),
        ("no-letters", []),
    ],
)
def test_the_buckets_that_letters_are_looked_for_in_are_needed_and_no_others(letter_files, needed):
    given = {name: value for name, value in NEEDED.items() if not name.startswith("S3_BUCKET_")}
    given |= {} if letter_files is None else {"LETTER_FILES": letter_files}
    buckets = {f"S3_BUCKET_{name}": f"bucket-{name}" for name in needed}
    settings = config.load(given | buckets)
    assert [getattr(settings, name) for name in settings.letter_buckets] == list(buckets.values())
    for name in buckets:
        with pytest.raises(config.SettingsError) as refusal:
            config.load({**given, **buckets, name: " "})
        assert str(refusal.value) == f"{name} is not set. {config.Settings.model_fields[name.lower()].description}"


def test_statuses_and_referring_rows_are_json():
    settings = load(LETTER_STATUSES_FINAL='["created"]', REFERRING_ROWS='{"scheduled_notifications": "delete"}')
    assert settings.letter_statuses_final == ("created",)
    assert settings.referring_rows == {"scheduled_notifications": "delete"}


def test_every_status_of_the_family_is_known_to_be_final_or_not():
    assert {*FINAL, *UNFINISHED} == {*STATUSES}
    assert not {*FINAL} & {*UNFINISHED}
