"""The rule of a fifth, as a table.

Each test was seen to fail with `>` made `>=`, `>=` made `>`, or one of the conditions taken out.
"""

from datetime import UTC, datetime, timedelta

import pytest

from app.config import load
from app.dao.runs_dao import Look
from app.retention.missing_files import too_many
from app.retention.report import MissingFiles

NOON = datetime(2026, 1, 20, 12, 0, tzinfo=UTC)
TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)


def settings(**variables):
    return load(
        {
            "DATABASE_URL": "postgresql://nobody@localhost/none",
            "CELERY_BROKER_URL": "redis://localhost",
            "S3_BUCKET_LETTERS_PDF": "letters",
            "S3_BUCKET_TEST_LETTERS": "test-letters",
            "S3_BUCKET_INVALID_PDF": "invalid-pdf",
            "S3_BUCKET_LETTERS_SCAN": "letters-scan",
            **variables,
        }
    )


@pytest.mark.parametrize(
    ("earlier", "step", "is_too_many"),
    [
        pytest.param((0, 0), (19, 19), False, id="fewer than twenty"),
        pytest.param((0, 0), (20, 4), False, id="exactly a fifth"),
        pytest.param((0, 0), (20, 5), True, id="more than a fifth"),
        pytest.param((0, 0), (24, 5), True, id="just more than a fifth"),
        pytest.param((0, 0), (25, 5), False, id="exactly a fifth of more"),
        pytest.param((19, 5), (1, 0), False, id="this step misses none itself"),
        pytest.param((19, 4), (1, 1), True, id="twenty over the run"),
        pytest.param((10_000, 10), (20, 20), False, id="a small part of the run"),
        pytest.param((10_000, 2_000), (5, 1), False, id="exactly a fifth over the run"),
        pytest.param((10_000, 2_000), (4, 1), True, id="more than a fifth over the run"),
        pytest.param((0, 0), (0, 0), False, id="nothing looked for"),
    ],
)
def test_more_than_a_fifth_of_at_least_twenty_letters_is_too_many(earlier, step, is_too_many):
    found = too_many({"letters": Look(*earlier)}, {"letters": Look(*step)}, set(), settings())
    expected = MissingFiles("letters", earlier[0] + step[0], earlier[1] + step[1])
    assert found == (expected if is_too_many else None)


def test_each_bucket_has_a_sum_of_its_own():
    step = {"letters": Look(100, 0), "invalid-pdf": Look(20, 20)}
    assert too_many({"letters": Look(100, 0)}, step, set(), settings()) == MissingFiles("invalid-pdf", 20, 20)
    assert too_many({"letters": Look(50, 50)}, {"invalid-pdf": Look(20, 1)}, set(), settings()) is None


def test_an_accepted_bucket_does_not_hide_another_one():
    step = {"letters": Look(20, 20), "invalid-pdf": Look(20, 20)}
    assert too_many({}, step, {"letters"}, settings()) == MissingFiles("invalid-pdf", 20, 20)
    assert too_many({}, step, {"letters", "invalid-pdf"}, settings()) is None


@pytest.mark.parametrize(
    ("variables", "looked", "missing", "is_too_many"),
    [
        ({"MISSING_FILES_SHARE": "off"}, 5_000, 5_000, False),
        ({"MISSING_FILES_SHARE": "0.5"}, 20, 10, False),
        ({"MISSING_FILES_SHARE": "0.5"}, 20, 11, True),
        ({"MISSING_FILES_LEAST": "3"}, 2, 2, False),
        ({"MISSING_FILES_LEAST": "3"}, 3, 3, True),
    ],
)
def test_share_and_least_number_are_settings(variables, looked, missing, is_too_many):
    found = too_many({}, {"letters": Look(looked, missing)}, set(), settings(**variables))
    assert (found is not None) == is_too_many
