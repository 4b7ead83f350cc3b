"""Settings: from a mapping, typed, and refused with a sentence that names the variable.

Seen to fail: the broker's check, the URL's check, the time zone's check, `off`, the JSON of the postage classes and
`frozen` taken out, and `load` reading the process's environment whatever it is given.
"""

from datetime import time

import pytest
import trustme
from pydantic import ValidationError
from sqlalchemy import create_engine, make_url

from app import config
from app.retention.letters import LEAST_SECONDS_TO_MOVE, STATEMENTS_TO_MOVE

NEEDED = {
    "DATABASE_URL": "postgresql://someone:secret@db.test:5432/notify",
    "CELERY_BROKER_URL": "redis://broker.test:6379/0",
    "S3_BUCKET_LETTERS_PDF": "letters-pdf",
    "S3_BUCKET_TEST_LETTERS": "test-letters",
    "S3_BUCKET_INVALID_PDF": "invalid-pdf",
    "S3_BUCKET_LETTERS_SCAN": "letters-scan",
}


def load(**variables: str) -> config.Settings:
    return config.load({**NEEDED, **variables})


@pytest.mark.parametrize(
    ("operators", "viewers", "name", "as_user", "by_proxy"),
    [
        ("", "", "olga", True, False),
        ("", "OLGA", "olga", False, False),
        ("Olga", "", "oLGA", True, True),
        ("olga", "", "vera", False, False),
        ("olga", "olga", "olga", False, False),
    ],
)
def test_who_may_act_on_the_ops_page(operators, viewers, name, as_user, by_proxy):
    settings = config.load({**NEEDED, "OPS_OPERATORS": operators, "OPS_VIEWERS": viewers})
    assert [settings.may_act(name, by_proxy=proxied) for proxied in (False, True)] == [as_user, by_proxy]


def test_what_is_needed_is_enough_and_the_rest_has_its_documented_default():
    settings = load()
    assert (settings.retention_default_days, settings.letters_per_step, settings.messages_per_step) == (7, 5000, 10000)
    assert (settings.retention_timezone, settings.letter_folder_timezone) == ("Europe/London", "Europe/London")
    assert settings.retention_nightly_at == time(3, 0)
    assert settings.missing_files_share == 0.2
    assert settings.aws_endpoint_url_s3 is None


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("value", [None, "", "   "])
def test_a_variable_that_is_missing_or_empty_is_named_in_a_sentence_that_says_what_it_is(name, value):
    given = {**NEEDED, name: value} if value is not None else {n: v for n, v in NEEDED.items() if n != name}
    with pytest.raises(config.SettingsError) as refusal:
        config.load(given)
    assert str(refusal.value) == f"{name} is not set. {config.Settings.model_fields[name.lower()].description}"


def test_every_wrong_variable_has_a_line_of_its_own():
    with pytest.raises(config.SettingsError) as refusal:
        config.load({"LETTERS_PER_STEP": "many", "LOG_LEVEL": "LOUD"})
    lines = str(refusal.value).splitlines()
    assert {line.split()[0] for line in lines} == {*NEEDED, "LETTERS_PER_STEP", "LOG_LEVEL"}
    assert len(lines) == len(NEEDED) + 2


@pytest.mark.parametrize(
    "sender", ["us@b.test", "Us <us@b.test>", '"Us, Ltd" <us@b.co.test>', "Über uns <us+x@b.test>"]
)
def test_a_sender_may_have_a_name(sender):
    assert load(EMAIL_SENDER=sender).email_sender == sender


@pytest.mark.parametrize(
    ("name", "value", "because"),
    [
        ("RETENTION_TIMEZONE", "Europe/Londno", "'Europe/Londno' is not a time zone"),
        ("RETENTION_TIMEZONE", "../../etc/passwd", "is not a time zone"),
        ("LETTER_FOLDER_TIMEZONE", "BST+1", "is not a time zone"),
        ("CELERY_BROKER_URL", "sqla+postgresql://someone:secret@db.test/notify", "transports lose tasks"),
        ("CELERY_BROKER_URL", "filesystem://", "transports lose tasks"),
        ("CELERY_BROKER_URL", "memory://", "the broker must be one of"),
        ("CELERY_BROKER_URL", "sentinel://broker.test:26379/0", "Sentinels are not asked for the primary"),
        ("CELERY_BROKER_URL", "redis:/x", "it must look like redis://"),
        ("CELERY_BROKER_URL", "redis://", "it must look like redis://"),
        ("CELERY_BROKER_URL", "redis:///0", "it must look like redis://"),
        ("CELERY_BROKER_URL", "amqp://broker.test:port//", "it must look like amqp://"),
        ("CELERY_BROKER_URL", "redis://broker.test/x", "a database is a number"),
        ("CELERY_BROKER_URL", "rediss://broker.test/0?ssl_cert_reqs=none", "its certificate is always verified"),
        ("CELERY_BROKER_URL", "amqp://one.test//;amqps://two.test//", "all its addresses must have one scheme"),
        ("BROKER_CA_FILE", "/nowhere/ca.pem", "is no file of certificates in PEM"),
        ("CELERY_BROKER_URL", "broker.test:6379", "the broker must be one of"),
        ("DATABASE_URL", "mysql://someone:secret@db.test/notify", "must look like postgresql://"),
        ("DATABASE_URL", "sqlite:///notify.db", "must look like postgresql://"),
        ("DATABASE_URL", "postgresql://", "must look like postgresql://"),
        ("DATABASE_URL", "db.test/notify", "must look like postgresql://"),
        ("LETTERS_PER_STEP", "0", "greater than 0"),
        ("MESSAGES_PER_STEP", "-1", "greater than 0"),
        ("LETTERS_PER_STEP", "5e3", "valid integer"),
        ("RETENTION_DEFAULT_DAYS", "0", "greater than 0"),
        ("ROWS_PER_SLICE", "0", "greater than 0"),
        ("STEP_BUDGET_SECONDS", "4.9", "greater than or equal to 5"),
        ("STEP_BUDGET_SECONDS", "76", "less than or equal to 75"),
        ("RETENTION_NIGHTLY_AT", "three", "time"),
        ("MISSING_FILES_SHARE", "0", "greater than 0"),
        ("MISSING_FILES_SHARE", "1", "less than 1"),
        ("MISSING_FILES_SHARE", "never", "valid number"),
        ("LETTER_POSTAGE_CLASSES", "first=1", "valid dictionary"),
        ("LETTER_POSTAGE_CLASSES", '["first"]', "valid dictionary"),
        ("LETTER_POSTAGE_CLASSES", '{"first": 1}', "valid string"),
        ("S3_BUCKET_LETTERS_PDF", "ab", "at least 3 characters"),
        ("LOG_FORMAT", "xml", "'json' or 'console'"),
        *[
            ("EMAIL_SENDER", sender, "give an address, or Name <address>")
            for sender in (
                "Retention",
                "us@",
                "us@localhost",
                "a@b.test, c@d.test",
                "Us <us@b.test> x",
                "<us@b>",
                "us@b.test\n",
            )
        ],
    ],
)
def test_a_wrong_value_is_refused_by_its_name_with_the_reason(name, value, because):
    with pytest.raises(config.SettingsError) as refusal:
        load(**{name: value})
    said = str(refusal.value)
    assert said.startswith(f"{name} is wrong: ")
    assert because in said
    assert "secret" not in said


@pytest.mark.parametrize(
    "scheme",
    ["postgresql", "postgres", "postgresql+psycopg2"],
)
def test_any_postgresql_url_is_for_our_driver(scheme):
    url = load(DATABASE_URL=f"{scheme}://someone:secret@db.test:5432/notify").database_url
    assert url == "postgresql+psycopg2://someone:secret@db.test:5432/notify"


@pytest.mark.parametrize("scheme", ["redis", "rediss", "amqp", "amqps", "sqs"])
def test_a_broker_that_keeps_its_tasks_is_taken(scheme):
    assert load(CELERY_BROKER_URL=f"{scheme}://broker.test").celery_broker_url == f"{scheme}://broker.test"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("valkey://:secret@broker.test:6379/2", "redis://:secret@broker.test:6379/2"),
        ("valkeys://broker.test", "rediss://broker.test"),
        ("amqp://one.test//; amqp://two.test//", "amqp://one.test//;amqp://two.test//"),
    ],
)
def test_valkey_is_spoken_to_as_redis_is_and_rabbitmq_may_have_several_nodes(given, taken):
    assert load(CELERY_BROKER_URL=given).celery_broker_url == taken


def test_an_authority_is_named_only_for_a_broker_with_a_certificate(tmp_path):
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authority))
    with pytest.raises(config.SettingsError, match="BROKER_CA_FILE is wrong: redis has no certificate"):
        load(BROKER_CA_FILE=str(authority))
    assert load(BROKER_CA_FILE=str(authority), CELERY_BROKER_URL="valkeys://broker.test").broker_ca_file


@pytest.mark.parametrize(
    ("value", "share"), [("off", None), ("OFF", None), (" off ", None), ("0.5", 0.5), ("0.001", 0.001)]
)
def test_the_share_of_missing_files_may_be_off(value, share):
    assert load(MISSING_FILES_SHARE=value).missing_files_share == share


def test_postage_classes_are_a_json_object_in_place_of_the_default():
    assert load(LETTER_POSTAGE_CLASSES='{"first": "A"}').letter_postage_classes == {"first": "A"}


def test_an_empty_optional_variable_means_its_default():
    assert load(LETTERS_PER_STEP="", AWS_ENDPOINT_URL_S3=" ").letters_per_step == 5000


def test_nothing_is_read_from_the_process_when_a_mapping_is_given(monkeypatch):
    monkeypatch.setenv("LETTERS_PER_STEP", "17")
    monkeypatch.setenv("letters_per_step", "18")
    assert load().letters_per_step == 5000
    monkeypatch.setenv("DATABASE_URL", NEEDED["DATABASE_URL"])
    with pytest.raises(config.SettingsError, match=r"DATABASE_URL is not set\."):
        config.load({name: value for name, value in NEEDED.items() if name != "DATABASE_URL"})


def test_the_process_is_read_when_no_mapping_is_given(monkeypatch):
    for name, value in {**NEEDED, "LETTERS_PER_STEP": "17"}.items():
        monkeypatch.setenv(name, value)
    assert config.load().letters_per_step == 17


def test_settings_do_not_change_once_they_are_loaded():
    settings = load()
    with pytest.raises(ValidationError, match="frozen"):
        settings.letters_per_step = 1
    assert settings.letters_per_step == 5000


def test_every_setting_is_documented():
    assert [name for name, field in config.Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("budget", "seconds", "refused"),
    [("60", "300", True), ("60", "301", False), ("5", "25", True), ("5", "26", False), ("75", "375", True)],
)
def test_a_visibility_time_out_is_above_the_time_at_which_a_task_is_cut(budget, seconds, refused):
    variables = {"STEP_BUDGET_SECONDS": budget, "VISIBILITY_TIMEOUT_SECONDS": seconds}
    if not refused:
        settings = load(**variables)
        assert settings.visibility_timeout_seconds > settings.task_time_limit_seconds
        return
    with pytest.raises(config.SettingsError) as refusal:
        load(**variables)
    assert str(refusal.value) == (
        f"VISIBILITY_TIMEOUT_SECONDS is wrong: it must be above {5 * int(budget)}, 5 times STEP_BUDGET_SECONDS, or the "
        "broker hands out a task that is still running."
    )


def test_a_wrong_budget_is_not_said_to_make_the_visibility_time_out_wrong_too():
    with pytest.raises(config.SettingsError, match=r"\ASTEP_BUDGET_SECONDS is wrong: [^\n]+\Z"):
        load(STEP_BUDGET_SECONDS="1", VISIBILITY_TIMEOUT_SECONDS="30")


def test_the_time_outs_that_ship_fit_the_longest_budget():
    assert load(STEP_BUDGET_SECONDS="75").visibility_timeout_seconds > 375


@pytest.mark.parametrize("budget", ["30", "60", "75"])
def test_a_lease_outlives_a_step_that_used_its_budget_up_and_then_moves_what_s3_let_go(budget):
    least_seconds_to_move = STATEMENTS_TO_MOVE * LEAST_SECONDS_TO_MOVE
    assert load(STEP_BUDGET_SECONDS=budget).lease_seconds >= float(budget) + least_seconds_to_move


@pytest.mark.parametrize(
    ("given", "hosts", "ports", "target"),
    [
        ("someone:a%2Cb%40@h1:5432,h2:6432/notify", "h1,h2", "5432,6432", "read-write"),
        ("h1,h2/notify?sslmode=require", "h1,h2", ",", "read-write"),
        ("h1,h2/notify?target_session_attrs=primary", "h1,h2", ",", "primary"),
        ("h1:5432/notify", "h1", 5432, None),
    ],
)
def test_several_hosts_are_tried_in_turn_for_one_that_takes_changes(given, hosts, ports, target):
    url = load(DATABASE_URL=f"postgresql://{given}").database_url
    arguments = create_engine(url).dialect.create_connect_args(make_url(url))[1]
    assert (arguments["host"], arguments.get("port"), arguments.get("target_session_attrs")) == (hosts, ports, target)
    assert arguments["dbname"] == "notify"


@pytest.mark.parametrize("hosts", ["h1,", "[::1]:5432,h2", "h1:x,h2"])
def test_hosts_that_are_not_understood_are_refused_with_a_sentence(hosts):
    with pytest.raises(config.SettingsError, match=r"DATABASE_URL is wrong: several hosts must look like host1:5432"):
        load(DATABASE_URL=f"postgresql://someone:secret@{hosts}/notify")
