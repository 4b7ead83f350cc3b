"""What PostgreSQL refuses, without the rows' values.

A database error quotes data: the detail of a failed constraint shows the row, a trigger's message can hold anything.
So an error of the driver never leaves an engine as it is: `hide_values` puts a `Refusal` in the place of its text. That
is the kind of error, its SQLSTATE, and the names of the constraint, table and trigger function. Names belong to the
schema and are safe to log.
"""

import re
from dataclasses import dataclass

from psycopg2 import Error, InterfaceError, OperationalError
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError

CUT_BY_A_TIMEOUT = ("57014", "25P03", "25P04")
"""A statement was cancelled; an idle transaction or a transaction ran out of time."""
NOT_ABOUT_A_ROW = ("08", "25", "40", "53", "54", "55", "57", "58", "XX")
"""Classes of SQLSTATEs that say nothing about the rows: connections, rollbacks, resources, locks, the server itself."""
ABOUT_THE_STATEMENT = ("42", "26", "34", "3D", "3F")
"""Classes of SQLSTATEs that say that a statement or a privilege is wrong: every row would meet the same error."""
OWN_WORDS = ("08", "25", "28", "3D", "40", "42", "53", "54", "55", "57")
"""Classes of SQLSTATEs whose messages, where they are PostgreSQL's own, quote names and no value."""
TOO_LONG = "22001"
OF_A_FUNCTION = "function"
"""In the context of whatever a trigger or another function raised: its words are anybody's, under any SQLSTATE."""

_FUNCTION = re.compile(r"PL/pgSQL function (?:[\w$\"]+\.)*([\w$\"]+)\(")


@dataclass(frozen=True)
class Refusal:
    """Why the database refused a statement. Holds names of the schema only, never a value of a row."""

    kind: str
    """The driver's exception class, such as CheckViolation."""
    sqlstate: str | None
    """Five characters; None when the server gave no answer."""
    constraint: str | None = None
    """The constraint, or the function of the trigger, that refused."""
    table: str | None = None

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind, self.sqlstate, self.where and f"({self.where})") if part)

    @property
    def where(self) -> str:
        """The constraint or trigger function, and its table, as far as PostgreSQL named them."""
        return " of ".join(name for name in (self.constraint, self.table) if name)

    @property
    def was_cut(self) -> bool:
        """Whether a time-out of the database ended the statement: a smaller batch may succeed."""
        return self.sqlstate in CUT_BY_A_TIMEOUT

    @property
    def may_be_one_row(self) -> bool:
        """Whether a single row can be the cause, so that it is worth looking for it."""
        if self.kind == CountsDiffer.__name__:
            return True  # a trigger kept or dropped some of the rows
        return self.sqlstate is not None and not self.sqlstate.startswith(NOT_ABOUT_A_ROW + ABOUT_THE_STATEMENT)


class CountsDiffer(RuntimeError):
    """The rows written or deleted are not the rows selected for the move. The transaction must be rolled back."""

    def __init__(self, sentence: str, table: str) -> None:
        super().__init__(sentence)
        self.refusal = Refusal(CountsDiffer.__name__, None, table=table)


def refusal_of(error: DBAPIError) -> Refusal:
    """Describe a database error without any value of a row."""
    return _refusal(error.orig or error)


def _refusal(original: BaseException) -> Refusal:
    said = getattr(original, "diag", None)
    sqlstate = getattr(original, "pgcode", None)
    constraint = getattr(said, "constraint_name", None)
    if constraint is None:
        raised = _FUNCTION.search(getattr(said, "context", None) or "")
        constraint = raised.group(1) if raised else getattr(said, "column_name", None)
    return Refusal(type(original).__name__, sqlstate, constraint, getattr(said, "table_name", None))


def own_words(original: object) -> str | None:
    """What PostgreSQL or the driver says, where that can't quote a value; None where it could."""
    code = getattr(original, "pgcode", None)
    if code is None:  # of a connection that failed, or was never made
        return str(original).strip() if isinstance(original, OperationalError | InterfaceError) else None
    said = getattr(original, "diag", None)
    if said is None or OF_A_FUNCTION in (said.context or ""):
        return None
    return str(said.message_primary) if code == TOO_LONG or code.startswith(OWN_WORDS) else None


def in_words(error: DBAPIError) -> str:
    """For people: what PostgreSQL says where that is safe, else the refusal."""
    return own_words(error.orig) or str(refusal_of(error))


def hide_values(context: ExceptionContext) -> None:
    """Take every value out of a database error, in place, before anybody sees it: for SQLAlchemy's `handle_error`.

    The driver's error stays the cause of SQLAlchemy's, whatever a listener does. So its own text is replaced, too: then
    no traceback, log, report or record can hold what it said. Classes, SQLSTATE and `diag` stay for code to ask.
    """
    wrapped, original = context.sqlalchemy_exception, context.original_exception
    if wrapped is None:
        return  # neither the database's nor about a bound value: a time limit, for instance
    text = " ".join(part for part in (str(_refusal(original)), own_words(original)) if part)
    original.args = (text,)
    if isinstance(original, Error):
        original.__setstate__({"pgcode": original.pgcode, "pgerror": None})  # attributes, but read-only ones
    wrapped.args = (f"({type(original).__module__}) {text}",)
    wrapped.params = None
