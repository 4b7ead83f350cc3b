"""Reads objects, one after the other and a piece at a time: memory holds a piece, however large an object is."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.storage import object_keys
from app.storage.client import Requests
from app.storage.errors import REQUEST_ERRORS, trouble
from app.storage.listing import Cursor, list_objects

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BYTES_PER_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it is now; of one with versions the latest."""

    key: str = field(repr=False)
    bytes: int


def objects(client: "S3Client", requests: Requests, bucket: str, prefix: str) -> Iterator[StoredObject]:
    """The objects under a prefix, in the order of their keys. Raises Stopped or BucketRefuses."""
    after: Cursor | None = {}
    while after is not None:
        entries, after = list_objects(client, requests, bucket, prefix, after)
        for entry in entries:
            yield StoredObject(entry["Key"], entry["Size"])


def pieces(client: "S3Client", requests: Requests, bucket: str, key: str) -> Iterator[bytes]:
    """An object's content. Raises BucketRefuses before the first piece, and Stopped at any."""
    body = requests.send(client.get_object, Bucket=bucket, Key=object_keys.as_parameter(key))["Body"]
    yield from content(requests, body, BYTES_PER_PIECE)


def content(requests: Requests, body: Any, bytes_per_piece: int) -> Iterator[bytes]:
    """What an answer's body holds, a piece at a time. Raises Stopped."""
    with body:
        while True:
            requests.admit()
            try:
                piece = body.read(bytes_per_piece)
            except REQUEST_ERRORS as error:
                raise trouble(error) from error
            if not piece:
                return
            yield piece
