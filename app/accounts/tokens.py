"""Session tokens. Whoever has one is logged in, so that only its SHA-256 is kept: 256 random bits need no salt."""

import hashlib
import secrets

BYTES = 32


def new_token() -> str:
    """A token for a new session, in the characters of a URL."""
    return secrets.token_urlsafe(BYTES)


def token_hash(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()
