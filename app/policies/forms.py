"""An entry of a policy file: its keys and what they may be. The descriptions are the reference in docs/policies.md."""

import math
import re
from collections.abc import Mapping
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from app.config.kinds import Bucket
from app.models.types import NOTIFICATION_TYPES

LONGEST_PATH = 4
"""Columns of a path: three foreign keys and the column at their end."""
LARGEST_NUMBER = 2**63 - 1
LONGEST_DAYS = 100_000
NIGHT: Literal["night"] = "night"
HOUR: Literal["hour"] = "hour"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}")


def _table(name: str) -> str:
    parts = name.split(".")
    if len(parts) > 2 or not all(map(_NAME.fullmatch, parts)):
        raise ValueError('it is no table; give its name, or "schema.name"')
    return name


def _path(path: str) -> str:
    parts = path.split(".")
    if len(parts) > LONGEST_PATH or not all(map(_NAME.fullmatch, parts)):
        raise ValueError(
            f"it is no column; give a column, or a path of at most {LONGEST_PATH} names such as template_id.service_id"
        )
    return path


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else _tuple(value)


def _scalar(value: object) -> object:
    """A value that PostgreSQL can compare with something."""
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a text may not hold U+0000")
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise ValueError("the number is too large")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("the number must be finite")
    if not isinstance(value, str | int | float):
        raise ValueError("it must be a text, a number, true or false")
    return value


TableName = Annotated[str, AfterValidator(_table)]
Path = Annotated[str, AfterValidator(_path)]
ColumnName = Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
Scalar = Annotated[Any, AfterValidator(_scalar)]
Scalars = Annotated[tuple[Scalar, ...], BeforeValidator(_tuple), Field(min_length=1, max_length=1000)]


class Form(BaseModel):
    """A table of the file. No key but its own is taken, and no value of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def given(self) -> dict[str, Any]:
        """The keys that are set, by their field."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


def _only_one(form: Form, *names: str) -> None:
    if len(set(names) & form.model_fields_set) != 1:
        fields = type(form).model_fields
        raise ValueError(f"give one of {', '.join(fields[name].alias or name for name in names)}")


class Retention(Form):
    """How long a row stays, counted from its age."""

    days: int | None = Field(
        None, ge=1, le=LONGEST_DAYS, description="Days. The cut-off follows `CUTOFF_RULE`, as notifications' does."
    )
    hours: int | None = Field(None, ge=1, le=LONGEST_DAYS * 24, description="Hours, to the second.")
    minutes: int | None = Field(None, ge=1, le=LONGEST_DAYS * 24 * 60, description="Minutes, to the second.")
    of_service_for: Path | None = Field(
        None,
        description="A notification type, or a path to a column with one: the service's own retention of the type "
        "counts, from `service_data_retention`, and `days` is the default of services that have none.",
    )

    @model_validator(mode="after")
    def _one_length(self) -> "Retention":
        _only_one(self, "days", "hours", "minutes")
        if self.of_service_for is not None and self.days is None:
            raise ValueError("of_service_for needs days: services keep for days")
        return self

    @property
    def type_for_all(self) -> str | None:
        """The notification type whose retention counts for every row; None where a column says it, or none does."""
        return self.of_service_for if self.of_service_for in NOTIFICATION_TYPES else None


class Condition(Form):
    """What a column must be. A bare value means `is`. A NULL meets none but `set = false`."""

    model_config = ConfigDict(**Form.model_config, validate_by_name=False, validate_by_alias=True)

    equal: Scalar | None = Field(None, alias="is", description="Equal to it.")
    differs: Scalar | None = Field(None, alias="not", description="Set, and not equal to it.")
    one_of: Scalars | None = Field(None, alias="in", description="One of them.")
    none_of: Scalars | None = Field(None, alias="not_in", description="Set, and none of them.")
    is_set: bool | None = Field(None, alias="set", description="`true`: not NULL; `false`: NULL.")
    above: Scalar | None = Field(None, description="Greater than it.")
    below: Scalar | None = Field(None, description="Less than it.")

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: object) -> object:
        return value if isinstance(value, dict) else {"is": value}

    @model_validator(mode="after")
    def _one_operator(self) -> "Condition":
        _only_one(self, *type(self).model_fields)
        return self

    @property
    def operator(self) -> str:
        """The field that is set."""
        [name] = self.model_fields_set
        return name

    @property
    def values(self) -> tuple[Any, ...]:
        """What the column is compared with."""
        value = getattr(self, self.operator)
        return value if isinstance(value, tuple) else (value,)


class Change(Form):
    """What a column becomes. A bare value is that value."""

    to: Scalar | None = Field(None, description="This value.")
    now: Literal[True] | None = Field(None, description="`true`: the time of the batch.")
    null: Literal[True] | None = Field(None, description="`true`: NULL.")
    column: ColumnName | None = Field(None, description="The value of this column of the same row.")

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: object) -> object:
        return value if isinstance(value, dict) else {"to": value}

    @model_validator(mode="after")
    def _one_kind(self) -> "Change":
        _only_one(self, *type(self).model_fields)
        return self

    @property
    def kind(self) -> str:
        """The field that is set."""
        [name] = self.model_fields_set
        return name


class Disposition(Form):
    """What happens at the end. `"delete"` is short for `{ delete = true }`."""

    delete: Literal[True] | None = Field(None, description="`true`: the row is deleted.")
    move: TableName | None = Field(
        None,
        description="A table that the row is copied to before it is deleted: the columns that the table has, by name.",
    )
    redact: dict[ColumnName, Change] | None = Field(
        None,
        min_length=1,
        description="Columns, and what each becomes. It must make the policy's own condition false.",
    )

    @model_validator(mode="before")
    @classmethod
    def _in_a_word(cls, value: object) -> object:
        if value == "archive" or (isinstance(value, dict) and "archive" in value):
            raise ValueError("archive is not for policies yet; give delete, move or redact")
        if isinstance(value, str):
            if value != "delete":
                raise ValueError('it must be "delete", { move = … } or { redact = … }')
            return {"delete": True}
        return value

    @model_validator(mode="after")
    def _one_disposition(self) -> "Disposition":
        _only_one(self, *type(self).model_fields)
        return self


class Files(Form):
    """The object of each row, which goes before the row does."""

    bucket: Bucket = Field(description="The bucket.")
    key: str = Field(
        min_length=1,
        max_length=1024,
        description="The object's key, with paths in braces: `service-{service_id}-notify/{id}.csv`. One of them must "
        "be the table's key, so that no two rows share an object. A row with a NULL in one is not due.",
    )
    expected: bool = Field(
        True,
        description="Whether every row should have its object: then the policy stops when more than "
        "`MISSING_FILES_SHARE` of a batch have none. `false`: a row without one is counted, and goes.",
    )

    @field_validator("key")
    @classmethod
    def _of_paths(cls, key: str) -> str:
        _scalar(key)
        for _, path, form, conversion in _parsed(key):
            if path is not None:
                if form or conversion:
                    raise ValueError("only paths may stand in braces")
                _path(path)
        if not any(path for _, path, *_ in _parsed(key)):
            raise ValueError("it must name a column in braces, or every row would have the same object")
        return key

    @property
    def parts(self) -> tuple[tuple[str, str | None], ...]:
        """Literal text, and the path that follows it; None at the end."""
        return tuple((text, path) for text, path, *_ in _parsed(self.key))


def _parsed(key: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(Formatter().parse(key))
    except ValueError:
        raise ValueError("its braces do not match") from None


class Entry(Form):
    """One policy: one table, one rule for its age, one disposition."""

    table: TableName = Field(description="The table, found as the platform's own tables are, or `schema.name`.")
    age: Annotated[tuple[Path, ...], BeforeValidator(_listed), Field(min_length=1, max_length=4)] = Field(
        description="The column that a row's age is counted from: a timestamp or a date, be it behind a path. Of "
        "several, the first that is set. A row without one is never due."
    )
    retention: Retention = Field(description="How long a row stays.")
    then: Disposition = Field(description="What happens at the end.")
    where: Mapping[Path, Condition] = Field(
        {}, max_length=20, description="Which rows: columns or paths, and what each must be. All must be met."
    )
    files: Files | None = Field(None, description="The object of each row.")
    service: Path | None = Field(
        None,
        description="Path to the id of the row's service, for holds and retentions. Unset: the column `service_id`, if "
        "there is one.",
    )
    user: Path | None = Field(
        None,
        description="Path to the id of the row's user, for holds. Unset: the column `user_id`, if there is one.",
    )
    takes: Annotated[tuple[TableName, ...], BeforeValidator(_tuple)] = Field(
        (),
        description="Tables whose rows go with the row, by their foreign key's own CASCADE. One that is not named "
        "stops the policy.",
    )
    every: Literal["night", "hour"] = Field(NIGHT, description="When: with the night, or every hour.")
