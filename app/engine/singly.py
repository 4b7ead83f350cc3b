"""A statement about many rows of which the database may refuse one: the others have their turn all the same."""

from collections.abc import Callable, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.engine.isolation import Key, isolate
from app.refusals import Refusal, refusal_of

log = structlog.get_logger(__name__)

Act = Callable[[Connection, Sequence[Any]], object]


def act_on_each(connection: Connection, ids: Sequence[Key], act: Act, what: str) -> list[Key]:
    """Act on these rows, which the transaction has locked, at once; or on each that the database does not refuse.

    Returns those that were acted on. `what` says in the log what was refused; it is tried again when it is next due.
    """
    if not ids or refusal_to(connection, ids, act) is None:
        return list(ids)
    found = isolate(ids, lambda some: refusal_to(connection, some, act))
    for row_id, refusal in found.refused.items():
        log.error("row-refused", what=what, row=str(row_id), error=str(refusal))
    if found.everything is not None:
        log.error("row-refused", what=what, row="every one", error=str(found.everything))
    return found.good


def refusal_to(connection: Connection, ids: Sequence[Any], act: Act) -> Refusal | None:
    """Act on these rows, what a commit would check included; or undo it, and say why the database refuses.

    Raises the database's error where no single row can be the cause.
    """
    try:
        with connection.begin_nested():
            act(connection, ids)
            connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
    except DBAPIError as error:
        refusal = refusal_of(error)
        if not refusal.may_be_one_row:
            raise
        return refusal
    return None
