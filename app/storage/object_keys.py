"""Keys of objects, whatever characters they hold.

S3 keys are UTF-8, but may hold characters that XML has no form for, and some servers store bytes that are no UTF-8 at
all. Here such a byte is a lone surrogate of the str (`surrogateescape`), so that a key can be sent back exactly as it
was listed. PostgreSQL stores neither those nor U+0000: a column holds a key percent-encoded.
"""

import re
from urllib.parse import quote_from_bytes, unquote, unquote_plus

XML_CANNOT_CARRY = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Control characters, also those that XML allows (servers normalise some of them), lone surrogates, non-characters."""
KEPT_IN_A_COLUMN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class _Raw(str):
    """A key with bytes that are no UTF-8. botocore asks a parameter for its UTF-8, and gets those bytes."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", _errors: str = "strict") -> bytes:
        return super().encode(encoding, "surrogateescape")


def from_listing(encoded: str) -> str:
    """The key that a listing with encoding-type=url means."""
    return unquote_plus(encoded, errors="surrogateescape")


def as_parameter(key: str) -> str:
    """The key as botocore takes it. Not for an XML body."""
    return key if key.isascii() else _Raw(key)


def fits_xml(key: str) -> bool:
    """Whether a DeleteObjects request can name the key, and its answer name it in the same way."""
    return XML_CANNOT_CARRY.search(key) is None


def to_bytes(key: str) -> bytes:
    """The key as the server stores it."""
    return key.encode("utf-8", "surrogateescape")


def to_column(key: str) -> str:
    """The key as a text column holds it: printable ASCII as it is, all else and `%` percent-encoded."""
    return quote_from_bytes(to_bytes(key), safe=KEPT_IN_A_COLUMN)


def from_column(stored: str) -> str:
    """The key that `to_column` wrote."""
    return unquote(stored, errors="surrogateescape")
