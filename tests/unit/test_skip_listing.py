"""Skip listing against a bucket in memory: it finds what a full listing finds, in few requests."""

from bisect import bisect_right
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.storage.listing import Page, SkipListing, StoredFile
from app.storage.naming import Place

HEAD = "2026-01-20/NOTIFY."


@dataclass
class ShelfInMemory:
    """A bucket with a page size of its choice."""

    keys: list[str]
    page_size: int
    pages: int = 0
    forgets_cursors: bool = False
    """Lists nothing behind a cursor, like a server whose named version was deleted meanwhile."""

    def __post_init__(self) -> None:
        self.keys = sorted(self.keys, key=str.encode)

    def page(self, prefix, after):
        self.pages += 1
        if after and self.forgets_cursors:
            return Page([], None)
        start = bisect_right(self.keys, after["key"]) if after else 0
        under = [key for key in self.keys[start:] if key.startswith(prefix)]
        files = [StoredFile("letters", key, None) for key in under[: self.page_size]]
        more = len(under) > self.page_size
        return Page(files, {"key": files[-1].key} if more else None)

    def behind(self, file):
        return {"key": file.key}


def of_form(key: str, place: Place) -> bool:
    return key.startswith(place.prefix) and key.endswith(".PDF")


def found_in(shelf, references):
    listing = SkipListing("letters", [f"{HEAD}{reference}." for reference in references], of_form)
    listing.run(shelf)
    return {prefix: sorted(file.key for file in files) for prefix, files in listing.answered().items()}


def all_of(keys, references):
    prefixes = [f"{HEAD}{reference}." for reference in references]
    return {prefix: sorted(key for key in keys if of_form(key, Place("letters", prefix))) for prefix in prefixes}


references = st.text("AB-Z", min_size=1, max_size=4)
keys = st.builds(
    "{}NOTIFY.{}.{}{}".format,
    st.sampled_from(["2026-01-20/", "2026-01-21/", ""]),
    st.one_of(references, st.sampled_from(["ü", "AB😀", "￿"])),
    st.integers(0, 5),
    st.sampled_from([".PDF", ".TXT"]),
)


@given(
    keys=st.sets(keys, max_size=80),
    wanted=st.sets(references, min_size=1, max_size=40),
    page_size=st.integers(1, 9),
    forgets_cursors=st.booleans(),
)
def test_skipping_finds_exactly_what_is_there(keys, wanted, page_size, forgets_cursors):
    # A server that forgets can only be asked for what one page holds; each prefix has 12 keys at most.
    size = 12 if forgets_cursors else page_size
    shelf = ShelfInMemory(list(keys), size, forgets_cursors=forgets_cursors)
    assert found_in(shelf, wanted) == all_of(keys, wanted)


def test_a_server_that_lists_nothing_behind_a_deleted_version_proves_no_absence():
    shelf = ShelfInMemory(folder(50), page_size=12, forgets_cursors=True)
    wanted = [f"R{number:06}" for number in range(50)]
    assert found_in(shelf, wanted) == all_of(shelf.keys, wanted)


def folder(count: int) -> list[str]:
    return [f"{HEAD}R{number:06}.1.PDF" for number in range(count)]


@pytest.mark.parametrize(
    ("files_in_folder", "wanted", "most_pages"),
    [
        (5_000, range(5_000), 5),  # all of the folder: its pages
        (5_001, range(5_001), 6),
        (50_000, range(0, 50_000, 10), 50),  # every tenth: still its pages
        (50_000, range(0, 50_000, 5_000), 15),  # 10 far apart: about one request each, not 50 pages
        (50_000, range(100, 50_000, 2_000), 32),  # 25
        (50_000, [7, 49_000], 2),  # a handful: one each
        (50_000, range(20_000, 22_000), 6),  # a dense run in the middle: jump to it, then page
        (50_000, range(49_000, 50_000), 4),  # a dense run at the end
        (0, range(5_000), 1),  # none is there
        (50_000, range(60_000, 60_100), 50),  # none is there, in a full folder
    ],
)
def test_the_number_of_listings_is_bounded(files_in_folder, wanted, most_pages):
    shelf = ShelfInMemory(folder(files_in_folder), 1_000)
    listing = SkipListing("letters", [f"{HEAD}R{number:06}." for number in wanted], of_form)
    listing.run(shelf)
    answered = listing.answered()
    assert len(answered) == len(wanted)
    assert sum(len(files) for files in answered.values()) == sum(number < files_in_folder for number in wanted)
    assert shelf.pages <= most_pages
