"""Letter files, in two phases: what was found can be looked at before anything is deleted.

    stored = LetterFiles(s3_client(region), naming)
    search = stored.find(letters, deadline)
    deletion = stored.delete(search.files, deadline)

Neither phase raises what S3 answers: it is in the result. No result, log or `repr` shows a reference.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from app.storage.catalogue import Catalogue
from app.storage.client import Deadline, Requests, s3_client, worst_seconds_per_request
from app.storage.deletion import Deletion, delete
from app.storage.inventory import Inventory, inventory
from app.storage.listing import StoredFile
from app.storage.lookup import Counts, Search, search
from app.storage.naming import Letter, Naming

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = [
    "Counts",
    "Deadline",
    "Deletion",
    "LetterFiles",
    "Search",
    "StoredFile",
    "s3_client",
    "worst_seconds_per_request",
]


class LetterFiles:
    def __init__(self, client: "S3Client", naming: Naming, seconds_per_request: float | None = None) -> None:
        """seconds_per_request: the longest that one request can take; None: as the client is set up."""
        self._client = client
        self._naming = naming
        self._seconds_per_request = (
            worst_seconds_per_request(client) if seconds_per_request is None else seconds_per_request
        )

    def find(self, letters: Sequence[Letter], deadline: Deadline, catalogue: Catalogue | None = None) -> Search:
        """The files of each letter in all of its places. Deletes nothing."""
        return search(self._client, self._naming, letters, self._requests(deadline), catalogue)

    def delete(self, files: Mapping[UUID, Sequence[StoredFile]], deadline: Deadline) -> Deletion:
        """Deletes these files (of `Search.files`), the first letters first."""
        return delete(self._client, files, self._requests(deadline))

    def inventory(self, bucket: str, deadline: Deadline, after: str | None, before: str | None) -> Inventory:
        """Every key of a bucket with `after < key < before`. Unlike the others it raises: Stopped or BucketRefuses."""
        return inventory(self._client, self._requests(deadline), bucket, after, before)

    def _requests(self, deadline: Deadline) -> Requests:
        return Requests(deadline, self._seconds_per_request)
