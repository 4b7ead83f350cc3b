"""The guard against a wrong bucket, prefix or time zone, under which every letter would "have no file".

A letter without a file is no error. But when more than a fifth (setting) of at least 20 letters looked for in a
bucket over a run have none, nothing moves and the chain rests until an operator accepts it.
"""

from collections.abc import Collection, Mapping

from app.config import Settings
from app.dao.runs_dao import Look
from app.retention.report import MissingFiles


def too_many(
    before: Mapping[str, Look], step: Mapping[str, Look], accepted: Collection[str], settings: Settings
) -> MissingFiles | None:
    """The first bucket that has too many letters without a file, over the run so far and this step, or None.

    Only a bucket in which this step itself misses files can be one.
    """
    if settings.missing_files_share is None:
        return None
    for bucket, look in step.items():
        earlier = before.get(bucket, Look(0, 0))
        looked, missing = earlier.looked + look.looked, earlier.missing + look.missing
        is_suspicious = looked >= settings.missing_files_least and missing > settings.missing_files_share * looked
        if look.missing and is_suspicious and bucket not in accepted:
            return MissingFiles(bucket, looked, missing)
    return None
