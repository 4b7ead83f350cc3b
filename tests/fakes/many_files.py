"""An S3 server that holds many files from the start: no versions, listings in pages, deletes. Nothing else.

For steps that are too large to fill moto for, and for the benchmarks.
"""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.fakes.scripted_s3 import NEVER_VERSIONED, Answer, Asked, delete_result, error, scripted_s3

KEYS_PER_PAGE = 1000
LONG_AGO = "<LastModified>2020-01-01T00:00:00.000Z</LastModified>"


@dataclass
class ManyFiles:
    """The keys that are left, by bucket, sorted, and how often it was asked for what."""

    url: str = ""
    keys: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    requests: Counter[str] = field(default_factory=Counter)
    """`versioning`, `delete` (in bulk), `list-type` (a listing); `DELETE` (of one file), `list` (of the first kind)."""
    _lock: Lock = field(default_factory=Lock)

    def answer(self, asked: Asked) -> Answer:
        address = urlsplit(asked.target)
        bucket, _, key = address.path.lstrip("/").partition("/")
        query = parse_qs(address.query, keep_blank_values=True)
        going = [name for name, _ in asked.objects] if "delete" in query else []
        with self._lock:
            kind = next(iter({"versioning", "delete", "list-type"} & query.keys()), "list")
            self.requests[asked.method if key else kind] += 1
            if asked.method == "DELETE" and key:
                self.delete(bucket, [unquote(key)])
                return 204, ""
            if kind == "versioning":
                return NEVER_VERSIONED
            if kind == "delete":
                self.delete(bucket, going)
                return delete_result(deleted=going)
            if asked.method == "GET" and not key:
                return self._page(bucket, query)
        return error(501, "NotImplemented")

    def put(self, bucket: str, keys: Iterable[str]) -> None:
        """More files."""
        self.keys[bucket] = sorted({*self.keys[bucket], *keys})

    def count(self, bucket: str) -> int:
        """How many files are left."""
        return len(self.keys[bucket])

    def missing(self, bucket: str, keys: Iterable[str]) -> int:
        """How many of these are not there."""
        return len({*keys}.difference(self.keys[bucket]))

    def take_requests(self) -> Counter[str]:
        """The requests since the last call."""
        with self._lock:
            taken, self.requests = self.requests, Counter()
        return taken

    def delete(self, bucket: str, keys: Iterable[str]) -> None:
        """Those that are there; only what lies between the first and the last of them is looked at."""
        kept, going = self.keys[bucket], set(keys)
        start, end = bisect_left(kept, min(going)), bisect_right(kept, max(going))
        kept[start:end] = [key for key in kept[start:end] if key not in going]

    def _page(self, bucket: str, query: dict[str, list[str]]) -> Answer:
        kept, prefix = self.keys[bucket], query.get("prefix", [""])[0]
        markers = ("continuation-token", "start-after", "marker")
        after = next((query[name][0] for name in markers if name in query), "")
        start = max(bisect_left(kept, prefix), bisect_right(kept, after))
        page = [key for key in kept[start : start + KEYS_PER_PAGE] if key.startswith(prefix)]
        is_more = len(page) == KEYS_PER_PAGE and kept[start + KEYS_PER_PAGE : start + KEYS_PER_PAGE + 1] != []
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if is_more else ""
        contents = "".join(f"<Contents><Key>{escape(key)}</Key>{LONG_AGO}</Contents>" for key in page)
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
