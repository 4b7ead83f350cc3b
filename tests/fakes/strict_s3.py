"""An S3 server over HTTP that keeps keys as bytes and knows versions, and refuses what a real one refuses.

moto answers 500 to a control character in a key. This one lists such keys percent-encoded, refuses a DeleteObjects
whose XML can't be read or whose Content-MD5 is missing, and pages after a few keys.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote_plus, unquote_plus, unquote_to_bytes, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.fakes.scripted_s3 import NEVER_VERSIONED, S3_NAMESPACE, Answer, Asked, error, scripted_s3

ENTRIES_PER_PAGE = 3
VERSIONED = (200, f'<VersioningConfiguration xmlns="{S3_NAMESPACE}"><Status>Enabled</Status></VersioningConfiguration>')

Stored = tuple[bytes, str]
"""Key and version; the version is "" in a bucket that never had any."""


@dataclass
class StrictS3:
    """One bucket, whatever its name is. `files` are what is left."""

    files: set[Stored]
    is_versioned: bool = False
    bulk: Answer | None = None
    """The answer to every DeleteObjects, of a store that has none."""
    failing: frozenset[bytes] = frozenset()
    """Keys whose DeleteObject is answered 500."""
    locked: frozenset[bytes] = frozenset()
    """Keys that DeleteObjects answers for with an error."""
    url: str = ""
    in_bulk: list[bytes] = field(default_factory=list)
    """Keys that went by DeleteObjects."""
    alone: list[bytes] = field(default_factory=list)
    """Keys that a DeleteObject asked for."""

    def answer(self, asked: Asked) -> Answer:
        address = urlsplit(asked.target)
        query = dict(parse_qsl(address.query, keep_blank_values=True, errors="surrogateescape"))
        if "versioning" in query:
            return VERSIONED if self.is_versioned else NEVER_VERSIONED
        if asked.method == "GET" and "encoding-type" in query:
            return self._listing(query)
        if asked.method == "POST" and "delete" in query:
            return self._delete_objects(asked)
        if asked.method == "DELETE":
            return self._delete_object(unquote_to_bytes(address.path).split(b"/", 2)[2], query.get("versionId", ""))
        return error(501, "NotImplemented")

    def _listing(self, query: Mapping[str, str]) -> Answer:
        with_versions, prefix = "versions" in query, _bytes(query.get("prefix", ""))
        token = query.get("continuation-token", "")
        key_marker = (
            query.get("key-marker") or query.get("start-after") or unquote_plus(token, errors="surrogateescape")
        )
        behind = (_bytes(key_marker), query.get("version-id-marker", "\x7f"))
        found = [one for one in sorted(self.files) if one[0].startswith(prefix) and one > behind]
        page, is_more = found[:ENTRIES_PER_PAGE], len(found) > ENTRIES_PER_PAGE
        kind = "Version" if with_versions else "Contents"
        entries = "".join(
            f"<{kind}><Key>{quote_plus(key)}</Key><VersionId>{version}</VersionId>"
            f"<LastModified>2020-01-01T00:00:00.000Z</LastModified></{kind}>"
            for key, version in page
        )
        markers = ""
        if is_more:
            last, version = quote_plus(page[-1][0]), page[-1][1]
            markers = (
                f"<NextKeyMarker>{last}</NextKeyMarker><NextVersionIdMarker>{version}</NextVersionIdMarker>"
                if with_versions
                else f"<NextContinuationToken>{last}</NextContinuationToken>"
            )
        name = "ListVersionsResult" if with_versions else "ListBucketResult"
        return 200, (
            f"<{name}><EncodingType>url</EncodingType><IsTruncated>{str(is_more).lower()}</IsTruncated>"
            f"{markers}{entries}</{name}>"
        )

    def _delete_objects(self, asked: Asked) -> Answer:
        if self.bulk is not None:
            return self.bulk
        digest = hashlib.md5(asked.body.encode(), usedforsecurity=False).digest()
        if asked.headers.get("Content-MD5") != base64.b64encode(digest).decode():
            return error(400, "InvalidRequest")
        try:
            named = asked.objects
        except ElementTree.ParseError:
            return error(400, "MalformedXML")
        refused = [key for key, _ in named if key.encode() in self.locked]
        named = [one for one in named if one[0] not in refused]
        going = {(key.encode(), version or "") for key, version in named}
        self.files -= going
        self.in_bulk += [key for key, _ in going]
        entries = "".join(
            f"<Deleted><Key>{escape(key)}</Key>{f'<VersionId>{version}</VersionId>' if version else ''}</Deleted>"
            for key, version in named
        ) + "".join(f"<Error><Key>{escape(key)}</Key><Code>InvalidRequest</Code></Error>" for key in refused)
        return 200, f'<DeleteResult xmlns="{S3_NAMESPACE}">{entries}</DeleteResult>'

    def _delete_object(self, key: bytes, version: str) -> Answer:
        self.alone.append(key)
        if key in self.failing:
            return error(500, "InternalError")
        self.files.discard((key, version))
        return 204, ""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@contextmanager
def strict_s3(server: StrictS3) -> Iterator[StrictS3]:
    """Serves until the block ends."""
    with scripted_s3(server.answer) as script:
        server.url = script.url
        yield server
