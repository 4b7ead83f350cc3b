"""Kinds of values that settings have, each checked, and refused with half a sentence when it is wrong."""

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

BROKER_SCHEMES = ("redis", "rediss", "amqp", "amqps", "sqs")
LEAST_KEY_CHARACTERS = 32


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone; give an IANA name such as Europe/London") from None
    return name


def psycopg2_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg2") or not rest:
        raise ValueError("it must look like postgresql://user:password@host:5432/database")
    return f"postgresql+psycopg2://{rest}"


def _broker_url(url: str) -> str:
    if urlsplit(url).scheme not in BROKER_SCHEMES:
        raise ValueError(
            f"the broker must be one of {', '.join(BROKER_SCHEMES)}; "
            "the SQLAlchemy and filesystem transports lose tasks when a worker is killed"
        )
    return url


def _share(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() == "off" else value


def _listed(value: object) -> object:
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError:
            raise ValueError(f"{value!r} is not an address or a network such as 10.0.0.0/8") from None
    return values


def _long_enough(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value()) < LEAST_KEY_CHARACTERS:
        raise ValueError(
            f"it must have {LEAST_KEY_CHARACTERS} characters or more; make one with: "
            "python -c 'import secrets; print(secrets.token_hex(32))'"
        )
    return key


TimeZone = Annotated[str, AfterValidator(_time_zone)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]
Bucket = Annotated[str, Field(min_length=3, max_length=63)]
Share = Annotated[float, Field(gt=0, lt=1)]
Identifier = Annotated[str, Field(min_length=1, max_length=63)]
PlainIdentifier = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Networks = Annotated[Names, AfterValidator(_networks)]
DatabaseUrl = Annotated[str, AfterValidator(psycopg2_url)]
BrokerUrl = Annotated[str, AfterValidator(_broker_url)]
ShareOrOff = Annotated[Share | None, BeforeValidator(_share)]
Key = Annotated[SecretStr, AfterValidator(_long_enough)]
