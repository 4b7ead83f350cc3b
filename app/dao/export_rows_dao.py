"""A user's rows as JSON, read through a server-side cursor: a batch in memory at a time."""

from collections.abc import Iterator, Sequence
from uuid import UUID

from sqlalchemy import Connection, Text, bindparam, cast, column, func, literal_column, select, table, text

ROWS_PER_FETCH = 1000

# An entry of a board that holds everybody's.
BOARD_ENTRIES = text(
    """
    SELECT json_build_object('month', month, 'entry', entry)::text
    FROM leader_boards, jsonb_array_elements(entries) AS entry
    WHERE entries @> jsonb_build_array(jsonb_build_object('user_id', CAST(:user_id AS text)))
      AND entry ->> 'user_id' = CAST(:user_id AS text)
    """
)


def rows(
    connection: Connection,
    table_name: str,
    owner: str,
    columns: Sequence[str],
    user_id: UUID,
    *,
    is_address: bool = False,
) -> Iterator[str]:
    """The rows whose `owner` is the user, or the user's address, each as the text of a JSON object."""
    is_users = column(owner) == bindparam("user_id", user_id)
    if is_address:
        users = table("users", column("id"), column("email_address"))
        address = select(func.lower(users.c.email_address)).where(users.c.id == bindparam("user_id", user_id))
        is_users = func.lower(column(owner)) == address.scalar_subquery()
    of_user = (
        select(*(column(name) for name in columns)).select_from(table(table_name)).where(is_users).subquery("of_user")
    )
    as_json = select(cast(func.row_to_json(literal_column("of_user")), Text)).select_from(of_user)
    streamed = connection.execution_options(yield_per=ROWS_PER_FETCH)
    yield from streamed.execute(as_json).scalars()


def board_entries(connection: Connection, user_id: UUID) -> Iterator[str]:
    """The user's entries of leader boards, each as the text of a JSON object."""
    streamed = connection.execution_options(yield_per=ROWS_PER_FETCH)
    yield from streamed.execute(BOARD_ENTRIES, {"user_id": str(user_id)}).scalars()
