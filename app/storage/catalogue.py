"""What a caller may know of a folder without listing it: an index of its own."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from app.storage.listing import ObjectShelf, StoredFile
from app.storage.naming import Letter, Place


class Catalogue(Protocol):
    """Only for buckets that never had versions.

    There a delete by name takes whatever is under the name by then. Of versions it takes those that were listed:
    a version, or a delete marker of a lifecycle rule, that came later would stay.
    """

    def answers(
        self, shelf: ObjectShelf, bucket: str, wanted: Mapping[Place, Sequence[Letter]]
    ) -> dict[str, tuple[StoredFile, ...]]:
        """Prefix to its files, for the places that need no listing; every file of them, as far as can be known.

        `wanted` names a place's letters: those that share a reference share the place.
        Raises Stopped or BucketRefuses.
        """
        ...
