import os

import pytest

from dev.environment import isolated_environment, replaced_environment

EXPORTED = {
    "PATH": "/usr/bin",
    "HOME": "/home/somebody",
    "LC_ALL": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
    "DATABASE_URL": "postgresql://production.example/notifications",
    "CELERY_BROKER_URL": "amqp://production.example",
    "SQLALCHEMY_DATABASE_URI": "postgresql://production.example/notifications",
    "PGHOST": "production.example",
    "PGSERVICE": "production",
    "AWS_PROFILE": "production",
    "AWS_ENDPOINT_URL": "https://production.example",
    "S3_BUCKET_LETTERS_PDF": "production-letters-pdf",
    "RETENTION_TIME_ZONE": "Europe/Madrid",
    "LETTERS_PER_STEP": "1",
    "HTTPS_PROXY": "http://production.example",
}


def test_only_what_names_no_system_is_inherited() -> None:
    assert isolated_environment(EXPORTED) == {
        "PATH": "/usr/bin",
        "HOME": "/home/somebody",
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def test_without_a_base_it_is_the_process_that_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://production.example/notifications")
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("TERM", "vt100")
    copy = isolated_environment()
    assert copy["TERM"] == "vt100"
    assert not {"DATABASE_URL", "AWS_PROFILE"} & set(copy)


def test_a_replaced_environment_is_put_back_after_an_error() -> None:
    before = dict(os.environ)
    replacement = replaced_environment({"ONLY": "this"})
    replacement.__enter__()  # by hand: the error is what this is about
    assert {"ONLY": "this"}.items() <= os.environ.items()
    assert "PATH" not in os.environ
    error = RuntimeError()
    assert not replacement.__exit__(RuntimeError, error, None)
    assert dict(os.environ) == before
