"""Which statuses let a letter go: those that are known to be its last. Any other keeps it, and so does having none.

A status that is not known to be unfinished either is told apart: somebody has to say what it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from app.config import Settings
from app.dao import platform_dao
from app.dao.notifications_dao import TEST
from app.dao.platform import Platform
from app.models.types import LETTER

# In the order of the index, as the choice reads it.
UNKNOWN_OF_SERVICE = """
    SELECT DISTINCT n.notification_status AS status FROM (
        SELECT n.notification_status, {is_final} AS final, {is_unfinished} AS unfinished
        FROM {notifications} AS n
        WHERE n.service_id = (SELECT CAST(:service_id AS uuid)) AND n.notification_type = CAST(:letter AS {type})
        ORDER BY n.created_at
        LIMIT :at_most
    ) AS n
    WHERE NOT n.final AND NOT n.unfinished
    """

IS_FINAL = """(CAST(:final AS {status}[]) IS NULL OR :tests_in_any_status AND n.key_type = 'test'
        OR (n.notification_status = ANY (CAST(:final AS {status}[]))) IS TRUE)"""
IS_UNFINISHED = "(n.notification_status = ANY (CAST(:unfinished AS {status}[]))) IS TRUE"


@dataclass(frozen=True)
class LetterStatuses:
    """`final` is None where letters go in any status. With `tests_in_any_status` test letters do in any case."""

    final: tuple[str, ...] | None
    unfinished: tuple[str, ...]
    tests_in_any_status: bool = False

    def final_of(self, kind: str) -> tuple[str, ...] | None:
        """The statuses in which letters of a kind (REAL or TEST) go; None: in any."""
        return None if self.tests_in_any_status and kind == TEST else self.final

    def values(self, platform: Platform) -> Mapping[str, object]:
        """What the conditions of this module bind."""
        return {
            "final": platform.statuses(self.final),
            "unfinished": platform.statuses(self.unfinished),
            "tests_in_any_status": self.tests_in_any_status,
        }


def unknown(connection: Connection, statuses: LetterStatuses, service_id: UUID, at_most: int) -> set[str | None]:
    """The statuses that are in neither list, of the service's oldest `at_most` letters; None for none at all."""
    platform = platform_dao.known_in_index_order(connection)
    statement = platform.clause(UNKNOWN_OF_SERVICE, is_final=IS_FINAL, is_unfinished=IS_UNFINISHED)
    values = {"service_id": service_id, "letter": platform.a_type(LETTER), "at_most": at_most}
    return set(connection.execute(statement, {**values, **statuses.values(platform)}).scalars())


def of(settings: Settings) -> LetterStatuses:
    """As the settings have it."""
    final = None if settings.letters_in_any_status else settings.letter_statuses_final
    return LetterStatuses(final, settings.letter_statuses_unfinished, settings.test_letters_in_any_status)
