"""Passwords, kept as argon2id hashes with the library's own parameters."""

from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MOST_CHARACTERS = 1024
"""Of a password: no sentence is longer, and hashing takes time."""

_hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """The hash to keep, its parameters and salt in it."""
    return _hasher.hash(password)


def is_right(password: str, kept_hash: str | None) -> bool:
    """Whether the password is the one that was hashed.

    Where there is no hash (an unknown address, an account without a password) or one of another kind, it is False
    after as much work.
    """
    try:
        return _hasher.verify(kept_hash or _nobodys_hash(), password) and kept_hash is not None
    except InvalidHashError:
        return is_right(password, None)
    except VerificationError:
        return False


def is_outdated(kept_hash: str) -> bool:
    """Whether it was made with other parameters than new ones are: time to make it anew."""
    return _hasher.check_needs_rehash(kept_hash)


@cache
def _nobodys_hash() -> str:
    return _hasher.hash("the password of nobody")
