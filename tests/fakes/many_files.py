"""An S3 server that holds many files from the start: no versions, listings in pages, deletes in bulk. Nothing else.

For steps that are too large to fill moto for.
"""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from tests.fakes.scripted_s3 import NEVER_VERSIONED, Answer, Asked, delete_result, error, scripted_s3

KEYS_PER_PAGE = 1000


@dataclass
class ManyFiles:
    """The keys that are left, by bucket, sorted."""

    url: str = ""
    keys: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def answer(self, asked: Asked) -> Answer:
        address = urlsplit(asked.target)
        bucket, query = address.path.strip("/"), parse_qs(address.query, keep_blank_values=True)
        if "versioning" in query:
            return NEVER_VERSIONED
        if "delete" in query:
            return self._delete(bucket, [key for key, _ in asked.objects])
        if "list-type" in query:
            return self._page(bucket, query)
        return error(501, "NotImplemented")

    def _delete(self, bucket: str, keys: list[str]) -> Answer:
        going = set(keys)
        self.keys[bucket] = [key for key in self.keys[bucket] if key not in going]
        return delete_result(deleted=keys)

    def _page(self, bucket: str, query: dict[str, list[str]]) -> Answer:
        kept, prefix = self.keys[bucket], query["prefix"][0]
        after = (query.get("continuation-token") or query.get("start-after") or [""])[0]
        start = max(bisect_left(kept, prefix), bisect_right(kept, after))
        page = [key for key in kept[start : start + KEYS_PER_PAGE] if key.startswith(prefix)]
        is_more = len(page) == KEYS_PER_PAGE and kept[start + KEYS_PER_PAGE : start + KEYS_PER_PAGE + 1] != []
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if is_more else ""
        contents = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in page)
        return 200, (
            f"<ListBucketResult><IsTruncated>{str(is_more).lower()}</IsTruncated>{token}{contents}</ListBucketResult>"
        )


@contextmanager
def many_files(files: Iterable[tuple[str, str]]) -> Iterator[ManyFiles]:
    """Serves these files, bucket and key, until the block ends."""
    made = ManyFiles()
    for bucket, key in files:
        insort(made.keys[bucket], key)
    with scripted_s3(made.answer) as server:
        made.url = server.url
        yield made
