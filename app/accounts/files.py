"""A user's files in object storage: everything under `users/<id>/`, versions and delete markers included.

A file is gone only if S3 said so of this very file. Files that can't go keep the deletion from being complete.
"""

from typing import TYPE_CHECKING
from uuid import UUID

from flask import current_app

from app.accounts.tools import tools
from app.config import Settings
from app.storage.client import Deadline, Requests, s3_client, worst_seconds_per_request
from app.storage.deletion import delete
from app.storage.errors import BucketRefuses, Stopped
from app.storage.listing import shelf

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# S3's time-outs, of the seconds there are: one S3 request must fit in and leave time for the tables. There is no second
# attempt, since the next step is one.
CONNECT_SHARE, READ_SHARE = 0.1, 0.3
LONGEST_CONNECT_SECONDS, LONGEST_READ_SECONDS = 3.0, 10.0


class FilesRefused(Exception):
    """Files of the user can't be deleted; `code` is S3's for one of them."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class UserFiles:
    """The files of one user, in pages. Raises Stopped when S3, or the time, says so, and BucketRefuses."""

    def __init__(self, client: "S3Client", bucket: str, user_id: UUID, deadline: Deadline) -> None:
        self._client, self._bucket, self._user_id = client, bucket, user_id
        self._requests = Requests(deadline, worst_seconds_per_request(client))
        self._shelf = shelf(client, self._requests, bucket)

    @property
    def prefix(self) -> str:
        return f"users/{self._user_id}/"

    def count(self, at_most: int) -> int:
        """How many there are; counted no further than `at_most`."""
        found, page = 0, self._shelf.page(self.prefix, {})
        while True:
            found += len(page.files)
            if found >= at_most or page.next is None:
                return min(found, at_most)
            page = self._shelf.page(self.prefix, page.next)

    def delete_page(self) -> int:
        """Delete the first page. Returns how many files went, 0 when there is none. Raises FilesRefused.

        Always the first: what was deleted makes room for the next, and a cursor that names a deleted file is not
        understood alike by all servers.
        """
        page = self._shelf.page(self.prefix, {})
        if not page.files:
            return 0
        deletion = delete(self._client, {self._user_id: page.files}, self._requests)
        if deletion.deleted:
            return deletion.deleted
        if deletion.stopped:
            raise Stopped(deletion.stopped)
        for code in deletion.broken.values():
            raise BucketRefuses(code)
        raise FilesRefused(deletion.failed.get(self._user_id, "Unconfirmed"))


def user_files(user_id: UUID, deadline: Deadline, *, in_request: bool = False) -> UserFiles | None:
    """The user's files, or None where users have none. Inside a request, S3 is waited for less long."""
    settings = tools().settings
    if settings.s3_bucket_user_files is None:
        return None
    return UserFiles(client(settings, in_request=in_request), settings.s3_bucket_user_files, user_id, deadline)


def client(settings: Settings, *, in_request: bool) -> "S3Client":
    """One per budget and process: it keeps its connections. To make the first one takes a second."""
    budget_seconds = settings.account_request_seconds if in_request else settings.step_budget_seconds
    clients: dict[float, S3Client] = current_app.extensions.setdefault("accounts.files-clients", {})
    if budget_seconds not in clients:
        clients[budget_seconds] = s3_client(
            settings.aws_region,
            settings.aws_endpoint_url_s3,
            connect_seconds=min(LONGEST_CONNECT_SECONDS, budget_seconds * CONNECT_SHARE),
            read_seconds=min(LONGEST_READ_SECONDS, budget_seconds * READ_SHARE),
            attempts_per_request=1,
        )
    return clients[budget_seconds]
