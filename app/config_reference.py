"""docs/configuration.md, written from the settings: `python -m app.config_reference > docs/configuration.md`."""

from datetime import time
from typing import Any

from pydantic_core import PydanticUndefined

from app.config import Settings

HEAD = """# Configuration

Everything is set by environment variables, and checked at start: what is wrong is refused with a sentence for each.
This page is written from `app/config` by `make docs`, and a test holds the two together.

Credentials of S3 are AWS's own variables or role (`AWS_ACCESS_KEY_ID`, …), read by boto3. `make demo`, `make test` and
`make bench` ignore all of these variables; tests take other servers from `TEST_DATABASE_URL`, `TEST_CELERY_BROKER_URL`
and `TEST_AWS_ENDPOINT_URL_S3` alone.

| variable | default | what it is |
|---|---|---|
"""


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "**required**"
    if isinstance(value, time):
        return f"`{value:%H:%M}`"
    if value in ({}, ()):
        return "none"
    if isinstance(value, dict):
        return "`" + ", ".join(f"{name}: {of_name}" for name, of_name in value.items()) + "`" if value else "none"
    if isinstance(value, tuple):
        return "`" + ", ".join(value) + "`"
    return "unset" if value is None else f"`{value}`"


def reference() -> str:
    """The page, in Markdown."""
    rows = (
        f"| `{name.upper()}` | {_default(field.default)} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    )
    return HEAD + "".join(rows)


if __name__ == "__main__":
    print(reference(), end="")
