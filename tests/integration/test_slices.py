"""What a slice holds back is tried again by a chain of the whole service.

Seen to fail with the slice's own end as the deferral's cut-off: the later slices' letters were in no chain's reach.
"""

from typing import Any

import pytest
from sqlalchemy import Connection, text

from tests.chain_steps import cutoff_tonight, do_all, open_chains
from tests.factories import create_letter, create_service, days_ago, live


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {"S3_BUCKET_INVALID_PDF": "no-such-bucket"}


def test_a_bucket_that_a_slice_finds_broken_is_tried_again_up_to_the_services_cutoff(
    app: Any, connection: Connection, s3: Any
) -> None:
    service = create_service(connection)
    letters = {
        create_letter(connection, s3, service, days_ago(days), file=False, notification_status="validation-failed")
        for days in (40, 20)
    }
    first, _ = open_chains(service, "letter", bounds=[days_ago(30)])
    do_all([first])
    [record] = connection.execute(text("SELECT bucket, cutoff FROM retention.deferred_buckets")).all()
    assert tuple(record) == ("no-such-bucket", cutoff_tonight())
    assert live(connection) == letters


def test_a_letter_that_a_slice_holds_back_is_tried_again_up_to_the_services_cutoff(
    app: Any, connection: Connection, s3: Any
) -> None:
    service = create_service(connection)
    letter = create_letter(connection, s3, service, days_ago(40), reference="A.B", file=False)
    first, _ = open_chains(service, "letter", bounds=[days_ago(30)])
    do_all([first])
    [record] = connection.execute(text("SELECT notification_id, cutoff FROM retention.deferred_rows")).all()
    assert tuple(record) == (letter, cutoff_tonight())
