"""Living sessions: opened, found by their token, closed. An account in deletion gets none."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import Connection

from app.accounts import login_limits, passwords
from app.accounts.login_limits import ACCOUNTS
from app.accounts.session_cleanup import anonymous_before
from app.accounts.tokens import new_token, token_hash
from app.accounts.tools import tools
from app.accounts.visits import record_visit
from app.dao import user_sessions_dao, users_dao
from app.db import db


@dataclass(frozen=True)
class Session:
    """A living session, by its token. `user_id` is None for an anonymous one."""

    id: UUID
    user_id: UUID | None
    is_administrator: bool
    is_inactive: bool
    is_in_deletion: bool


@dataclass(frozen=True)
class Opened:
    """A new session of a user's. The token is nowhere else."""

    token: str
    user_id: UUID
    expires_at: datetime


class WrongCredentials(Exception):
    """There is no such address, or the password is another one: which of the two is not said."""


class InDeletion(Exception):
    """The account is being deleted: nobody can log in to it any more."""


class NotActive(Exception):
    """The account was never completed, or has been switched off: nobody can log in to it."""


def find(token: str, now: datetime) -> Session | None:
    """The session with this token, if it lives."""
    with db.transaction(read_only=True) as connection:
        row = user_sessions_dao.find(connection, token_hash(token), now, anonymous_before(tools().settings, now))
    return None if row is None else Session(**row._mapping)


def log_in(
    email_address: str, password: str, now: datetime, replacing: UUID | None = None, client: str | None = None
) -> Opened:
    """A session for the user with this address and password; the one that it replaces is closed.

    `client` is the network address of who asks, if it is known. Raises TooManyAttempts, WrongCredentials, or InDeletion
    or NotActive, which only who knows the password is told.
    """
    login_limits.count(ACCOUNTS, email_address, client, now)
    with db.transaction(read_only=True) as connection:
        account = users_dao.by_address(connection, email_address)
    is_right = passwords.is_right(password, None if account is None else account.password_hash)
    if account is None or account.password_hash is None or not is_right:
        raise WrongCredentials
    login_limits.succeeded(ACCOUNTS, email_address, client)
    # Both take their time, so that they are in no transaction.
    newer_hash = passwords.hash_password(password) if passwords.is_outdated(account.password_hash) else None
    with db.transaction() as connection:
        # A mark that comes after this waits, and then signs the new session out with the others.
        locked = users_dao.lock(connection, account.id)
        if locked is None or locked.password_hash != account.password_hash:
            raise WrongCredentials
        if locked.is_in_deletion:
            raise InDeletion
        if not locked.is_active:
            raise NotActive
        if newer_hash is not None:
            users_dao.set_password_hash(connection, account.id, newer_hash)
        record_visit(connection, account.id, now)
        if replacing is not None:
            user_sessions_dao.delete(connection, replacing)
        user_sessions_dao.delete_oldest(connection, account.id, tools().settings.sessions_per_user - 1)
        return _open(connection, account.id, now, timedelta(days=tools().settings.session_days))


def log_out(session_id: UUID) -> None:
    """Close the session. One that is closed already is as good."""
    with db.transaction() as connection:
        user_sessions_dao.delete(connection, session_id)


def record(user_id: UUID, now: datetime) -> None:
    """The user is here."""
    with db.transaction() as connection:
        record_visit(connection, user_id, now)


def _open(connection: Connection, user_id: UUID, now: datetime, lasting: timedelta) -> Opened:
    opened = Opened(new_token(), user_id, now + lasting)
    user_sessions_dao.insert(connection, uuid4(), token_hash(opened.token), user_id, now, opened.expires_at)
    return opened
