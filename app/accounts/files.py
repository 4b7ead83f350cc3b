"""A user's files in object storage: everything under `users/<id>/`, versions and delete markers included.

A file is gone only if S3 said so of this very file. Files that can't go keep the deletion from being
complete, and no other file.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import UUID

from flask import current_app

from app.accounts.tools import tools
from app.config import Settings
from app.storage.client import Deadline, Requests, s3_client, worst_seconds_per_request
from app.storage.deletion import delete
from app.storage.errors import BucketRefuses, Stopped
from app.storage.listing import Cursor, StoredFile, shelf

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# S3's time-outs, of the seconds there are: one S3 request must fit in and leave time for the tables. There is no second
# attempt, since the next step is one.
CONNECT_SHARE, READ_SHARE = 0.1, 0.3
LONGEST_CONNECT_SECONDS, LONGEST_READ_SECONDS = 3.0, 10.0


class FilesRefused(Exception):
    """Files of the user can't be deleted; `code` is S3's for one of them."""

    def __init__(self, code: str, files: int) -> None:
        super().__init__(f"{code}, of {files} file{'s' * (files > 1)}")


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

    def delete(self) -> Iterator[int]:
        """Delete them, page by page. Yields how many went; raises FilesRefused at the end if some did not.

        The next page is listed from where this one was, since what was deleted makes room, and a cursor that names a
        deleted file is not understood alike by all servers. Only a page of which nothing can go is passed over.
        """
        after: Cursor | None = {}
        refused: set[StoredFile] = set()
        code, kept = "", 0
        while after is not None:
            page = self._shelf.page(self.prefix, after)
            files = [file for file in page.files if file not in refused]
            if not files:
                refused, after, kept = set(), page.next, kept + len(page.files)
                continue
            deletion = delete(self._client, {self._user_id: files}, self._requests)
            if deletion.deleted:
                yield deletion.deleted
            if deletion.stopped:
                raise Stopped(deletion.stopped)
            for refusal in deletion.broken.values():
                raise BucketRefuses(refusal)
            if not deletion.deleted:
                refused.update(files)
                code = deletion.failed.get(self._user_id, "Unconfirmed")
        if kept:
            raise FilesRefused(code, kept)


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
