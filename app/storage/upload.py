"""An object that is written while it is made: in memory is one part of it, however large it gets."""

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from app.storage.client import Requests
from app.storage.errors import BucketRefuses, Stopped

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

LEAST_PART_BYTES = 5 * 1024 * 1024
"""S3's own: every part but the last has at least so many."""


class Upload:
    """A file to write to. The object is there once `finish` has returned; without it nothing is, nor any part.

    with Upload(...) as upload:
        upload.write(b"...")
        upload.finish()

    What fits in one part is put as it is. Raises Stopped or BucketRefuses. A process that is killed leaves its parts;
    `abort_all` finds them.
    """

    def __init__(
        self,
        client: "S3Client",
        requests: Requests,
        bucket: str,
        key: str,
        content_type: str,
        how: Mapping[str, str] | None = None,
    ) -> None:
        """`how` are further parameters of S3's, such as StorageClass."""
        self._client, self._requests = client, requests
        self._place = {"Bucket": bucket, "Key": key}
        self._how: dict[str, Any] = {"ContentType": content_type, **(how or {})}
        self._buffer = bytearray()
        self._parts: list[CompletedPartTypeDef] = []
        self._upload_id: str | None = None
        self._is_finished = False

    def __enter__(self) -> "Upload":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_finished or self._upload_id is None:
            return
        try:
            self._requests.send(self._client.abort_multipart_upload, **self._place, UploadId=self._upload_id)
        except (Stopped, BucketRefuses):
            if error is None:
                raise

    def write(self, data: bytes) -> int:
        """Keep it, and send what has come together."""
        self._buffer += data
        while len(self._buffer) >= LEAST_PART_BYTES:
            self._send_part(bytes(self._buffer[:LEAST_PART_BYTES]))
            del self._buffer[:LEAST_PART_BYTES]
        return len(data)

    def flush(self) -> None:
        """Nothing: a part has its least size."""

    def finish(self) -> None:
        """Send the rest and make the object of all parts."""
        if self._upload_id is None:
            self._requests.send(self._client.put_object, **self._place, **self._how, Body=bytes(self._buffer))
            self._is_finished = True
            return
        self._send_part(bytes(self._buffer))
        self._requests.send(
            self._client.complete_multipart_upload,
            **self._place,
            UploadId=self._upload_id,
            MultipartUpload={"Parts": self._parts},
        )
        self._is_finished = True

    def _send_part(self, body: bytes) -> None:
        if self._upload_id is None:
            made = self._requests.send(self._client.create_multipart_upload, **self._place, **self._how)
            self._upload_id = made["UploadId"]
        number = len(self._parts) + 1
        answer = self._requests.send(
            self._client.upload_part, **self._place, UploadId=self._upload_id, PartNumber=number, Body=body
        )
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})


def abort_all(client: "S3Client", requests: Requests, bucket: str, key: str) -> int:
    """Remove the parts that killed processes left of this object. Returns how many uploads there were."""
    found = requests.send(client.list_multipart_uploads, Bucket=bucket, Prefix=key)
    uploads = [upload["UploadId"] for upload in found.get("Uploads", []) if upload["Key"] == key]
    for upload_id in uploads:
        requests.send(client.abort_multipart_upload, Bucket=bucket, Key=key, UploadId=upload_id)
    return len(uploads)
