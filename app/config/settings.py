"""Every setting, and how they are loaded."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import click
from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.config.accounts import AccountSettings
from app.config.archive import ArchiveSettings
from app.config.night import NightSettings
from app.config.operation import OperationSettings
from app.config.platform import BUCKETS_UNSET, PlatformSettings
from app.config.policies import PolicySettings

FROM_JSON = {
    "letter_postage_classes",
    "letter_statuses_final",
    "letter_statuses_unfinished",
    "referring_rows",
    "ops_users",
}
"""Settings that the environment gives as JSON."""


class SettingsError(click.ClickException, ValueError):
    """The settings are wrong. The message has a line for each, with the variable's name and how to fix it.

    A click exception, so that `flask` and `celery` print the message instead of a traceback.
    """


# Fields are listed, and checked, from the last class to the first: each may look at those of the classes behind it.
class Settings(
    OperationSettings, AccountSettings, PolicySettings, ArchiveSettings, NightSettings, PlatformSettings, BaseSettings
):
    """Every setting of the product. The variable is the field's name in capitals."""

    model_config = SettingsConfigDict(case_sensitive=False, frozen=True, extra="ignore", env_file=None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # `load` hands the environment over, so that a caller may hand over another


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment (the process's own unless another is given). Raises SettingsError."""
    given = os.environ if environment is None else environment
    values: dict[str, Any] = {
        name: given[name.upper()] for name in Settings.model_fields if given.get(name.upper(), "").strip()
    }
    for name in FROM_JSON & values.keys():
        values[name] = _from_json(values[name])
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError("\n".join(line for problem in error.errors() for line in _sentences(problem))) from None


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text  # the validator says that it is no object or array


def _sentences(problem: Any) -> Iterator[str]:
    if problem["type"] == BUCKETS_UNSET:
        yield from map(_not_set, problem["ctx"]["unset"])
        return
    name = str(problem["loc"][0])
    if problem["type"] == "missing":
        yield _not_set(name)
    else:
        reason = str(problem["msg"]).removeprefix("Value error, ")
        yield f"{name.upper()} is wrong: {reason}."


def _not_set(name: str) -> str:
    return f"{name.upper()} is not set. {Settings.model_fields[name].description}"
