"""Kinds of values that settings have, each checked, and refused with half a sentence when it is wrong."""

import ipaddress
import re
import ssl
from email.utils import parseaddr
from typing import Annotated
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

BROKER_SCHEMES = ("redis", "rediss", "amqp", "amqps", "sqs")
AS_REDIS = {"valkey": "redis", "valkeys": "rediss"}
LEAST_KEY_CHARACTERS = 32
TARGET_SESSION = "target_session_attrs"
_HOST = re.compile(r"[\w.-]+(:\d{1,5})?")
LABEL = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
PLAIN_ADDRESS = re.compile(
    rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+)*@{LABEL}(\.{LABEL})+", re.ASCII
)
"""An email address that no mail server has a reason to call malformed."""


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone; give an IANA name such as Europe/London") from None
    return name


def psycopg2_url(url: str) -> str:
    """As SQLAlchemy takes it. Several hosts, as libpq writes them, are tried in turn for one that takes changes."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg2") or not rest:
        raise ValueError("it must look like postgresql://user:password@host:5432/database")
    before_query, _, query = rest.partition("?")
    authority, _, path = before_query.partition("/")
    login, at, hosts = authority.rpartition("@")
    if "," not in hosts:
        return f"postgresql+psycopg2://{rest}"
    if not all(_HOST.fullmatch(host) for host in hosts.split(",")):
        raise ValueError("several hosts must look like host1:5432,host2:5432, with names or IPv4 addresses")
    options = [f"host={host}" for host in hosts.split(",")] + list(filter(None, [query]))
    if TARGET_SESSION not in query:
        options.append(f"{TARGET_SESSION}=read-write")
    return f"postgresql+psycopg2://{login}{at}/{path}?{'&'.join(options)}"


def _broker_url(urls: str) -> str:
    """Of one broker, or of several nodes of RabbitMQ with semicolons between them. Valkey is spoken to as Redis is."""
    checked = [_one_broker_url(url.strip()) for url in urls.split(";")]
    if len({url.partition("://")[0] for url in checked}) > 1:
        raise ValueError("all its addresses must have one scheme")
    return ";".join(checked)


def _one_broker_url(url: str) -> str:
    scheme, _, rest = url.partition(":")
    scheme = AS_REDIS.get(scheme, scheme)
    if scheme == "sentinel":
        raise ValueError(
            "Sentinels are not asked for the primary; give the primary as redis://host:6379/0, under a name that "
            "follows it"
        )
    if scheme not in BROKER_SCHEMES:
        raise ValueError(
            f"the broker must be one of {', '.join((*BROKER_SCHEMES, *AS_REDIS))}; "
            "the SQLAlchemy and filesystem transports lose tasks when a worker is killed"
        )
    parts = urlsplit(f"{scheme}:{rest}")
    if not rest.startswith("//") or not (scheme == "sqs" or _names_a_host(parts)):
        raise ValueError(f"it must look like {scheme}://user:password@host:port/…")
    if scheme in ("redis", "rediss") and not (parts.path in ("", "/") or parts.path[1:].isdecimal()):
        raise ValueError(f"a database is a number, as in {scheme}://host:6379/0")
    if "ssl" in parts.query:
        raise ValueError("its certificate is always verified; name the authority in BROKER_CA_FILE, not in the URL")
    return f"{scheme}:{rest}"


def _names_a_host(parts: SplitResult) -> bool:
    try:
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False


def _authorities(path: str) -> str:
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError):
        raise ValueError(f"{path!r} is no file of certificates in PEM that can be read") from None
    return path


def _sender(value: str) -> str:
    name, address = parseaddr(value)
    is_one = value.strip() == address or (value.strip().endswith(f"<{address}>") and value.count("@") == 1)
    if not (is_one and PLAIN_ADDRESS.fullmatch(address) and value.isprintable() and name.isprintable()):
        raise ValueError(f"{value!r} is not a sender; give an address, or Name <address>")
    return value.strip()


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
CaFile = Annotated[str, AfterValidator(_authorities)]
BrokerUrl = Annotated[str, AfterValidator(_broker_url)]
Sender = Annotated[str, AfterValidator(_sender)]
ShareOrOff = Annotated[Share | None, BeforeValidator(_share)]
Key = Annotated[SecretStr, AfterValidator(_long_enough)]
