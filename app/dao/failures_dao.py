"""Batches that failed, and what stopped them: names of the schema and codes only, never a value of a row."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

COLUMNS = ("error_class", "sqlstate", "refused_by", "refused_table", "s3_code")
"""Of a failure, on a chain's row and in its own table."""
NOTHING = dict.fromkeys(COLUMNS)
"""The columns of a chain whose last batch did not fail."""

RECORD = text(
    """
    INSERT INTO retention.batch_failures
        (failed_at, night, policy, chain_id, step, attempt, service_id,
         error_class, sqlstate, refused_by, refused_table, s3_code)
    VALUES
        (:now, :night, :policy, :chain_id, :step, :attempt, :service_id,
         :error_class, :sqlstate, :refused_by, :refused_table, :s3_code)
    """
)
# The newest: of a night in which everything fails there are many.
LATELY = text(
    """
    SELECT policy, count(*) AS batches, min(failed_at) AS first_at, max(failed_at) AS last_at,
           error_class, sqlstate, refused_by, refused_table, s3_code
    FROM (SELECT * FROM retention.batch_failures WHERE failed_at >= :since
          ORDER BY failed_at DESC LIMIT :at_most) AS latest
    GROUP BY policy, error_class, sqlstate, refused_by, refused_table, s3_code
    ORDER BY batches DESC, policy, error_class
    """
)
COUNT_NO_FURTHER = 10_000


@dataclass(frozen=True)
class Failure:
    """Why a batch failed."""

    error_class: str
    """The exception's class, the driver's where the database refused."""
    sqlstate: str | None = None
    refused_by: str | None = None
    """The constraint, or the function of the trigger, that refused."""
    refused_table: str | None = None
    s3_code: str | None = None

    def __str__(self) -> str:
        where = " of ".join(name for name in (self.refused_by, self.refused_table) if name)
        what = f"S3 answers {self.s3_code}" if self.s3_code else self.error_class
        return " ".join(part for part in (what, self.sqlstate, where and f"({where})") if part)

    def columns(self) -> dict[str, Any]:
        """By the names of COLUMNS."""
        return {name: getattr(self, name) for name in COLUMNS}


def record(
    connection: Connection,
    failure: Failure,
    *,
    night: date,
    policy: str,
    chain_id: int,
    step: int,
    attempt: int,
    service_id: UUID | None,
    now: datetime,
) -> None:
    """Write down that a batch failed. `now` is aware."""
    values = {
        "now": now,
        "night": night,
        "policy": policy,
        "chain_id": chain_id,
        "step": step,
        "attempt": attempt,
        "service_id": service_id,
    }
    connection.execute(RECORD, {**values, **failure.columns()})


@dataclass(frozen=True)
class Lately:
    """Batches of a policy that failed for one reason, from the first to the last (aware)."""

    policy: str
    batches: int
    first_at: datetime
    last_at: datetime
    failure: Failure


def lately(connection: Connection, since: datetime) -> list[Lately]:
    """What failed since then (aware), the most first; counted to the COUNT_NO_FURTHER newest."""
    return [
        Lately(row.policy, row.batches, row.first_at, row.last_at, of_row(row))
        for row in connection.execute(LATELY, {"since": since, "at_most": COUNT_NO_FURTHER})
    ]


def of_row(row: Row[Any]) -> Failure:
    """The failure that a row with COLUMNS says."""
    return Failure(row.error_class, row.sqlstate, row.refused_by, row.refused_table, row.s3_code)
