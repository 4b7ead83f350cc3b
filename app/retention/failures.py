"""A batch that failed, as data: what stopped it, for the chain's row, the record and the metric.

`retention.steps` has what batches did, one record each; a batch that failed did nothing, and is recorded apart.
"""

from collections.abc import Mapping

import structlog
from botocore.exceptions import ClientError
from sqlalchemy.exc import DBAPIError

from app import clock
from app.dao import failures_dao, totals_dao
from app.dao.chains_dao import Chain
from app.dao.failures_dao import Failure
from app.dao.notifications_dao import TEST
from app.db import db
from app.refusals import Refusal, refusal_of
from app.retention.report import StepReport
from app.retention.steps import StepFailed
from app.state.findings import policy_of
from app.storage.errors import OUT_OF_TIME, SLOW_DOWN, UNREACHABLE, BucketRefuses, Stopped

log = structlog.get_logger(__name__)

OF_S3 = frozenset({SLOW_DOWN, UNREACHABLE, OUT_OF_TIME})
"""Why S3 can't be asked any further."""


def of_error(error: BaseException) -> Failure:
    """What an exception says that stopped a batch, without a value of any row."""
    if isinstance(error, StepFailed):
        return _of_refusal(error.refusal)
    if isinstance(error, DBAPIError):
        return _of_refusal(refusal_of(error))
    if isinstance(error, Stopped):
        return Failure(type(error).__name__, s3_code=error.reason)
    if isinstance(error, BucketRefuses):
        return Failure(type(error).__name__, s3_code=error.code)
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code")
        return Failure(type(error).__name__, s3_code=str(code) if code else None)
    return Failure(type(error).__name__)


def of_report(report: StepReport) -> Failure | None:
    """Why a batch that was done to its end removed nothing: the database refuses every row, or S3 stopped it."""
    if report.database_refuses is not None:
        return _of_refusal(report.database_refuses)
    if report.stopped in OF_S3 and not report.removed:
        return Failure(Stopped.__name__, s3_code=report.stopped)
    return None


def _of_refusal(refusal: Refusal) -> Failure:
    return Failure(refusal.kind, refusal.sqlstate, refusal.constraint, refusal.table)


def note(chain: Chain, failure: Failure) -> None:
    """Record a failure and count it, in a transaction of its own: the chain's row must not depend on it."""
    now = clock.now()
    policy = policy_of(chain.notification_type, is_test=chain.stage == TEST)
    try:
        with db.transaction() as connection:
            failures_dao.record(
                connection,
                failure,
                night=chain.night,
                policy=policy,
                chain_id=chain.id,
                step=chain.step,
                attempt=chain.lease.attempts,
                service_id=chain.service_id,
                now=now,
            )
            totals_dao.add(connection, totals_dao.BATCH_FAILURES, {counted_as(policy, failure): 1})
    except DBAPIError as error:
        log.warning("failure-not-recorded", chain=chain.id, error=str(refusal_of(error)))


def counted_as(policy: str, failure: Failure) -> str:
    """The label of the total: the policy and the error, of which there are not many. S3 may say anything."""
    return f"{policy} {failure.s3_code if failure.s3_code in OF_S3 else failure.error_class}"


def by_policy(amounts: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    """Totals by policy and error."""
    return {tuple(label.split(" ", 1)): amount for label, amount in amounts.items()}
