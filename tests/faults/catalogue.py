"""All faults by name, and which of them a seed means."""

from random import Random

from tests.faults import faults_broker, faults_postgres, faults_storage, faults_work, faults_workers
from tests.faults.run import FAULTS

MODULES = (faults_workers, faults_broker, faults_postgres, faults_storage, faults_work)
NAMES = tuple(FAULTS)
MIXES_PER_ROUND = 40
ROUND = len(NAMES) + MIXES_PER_ROUND
NEVER_MIXED = frozenset(
    {
        # They decide what the whole run is about.
        "a cut-off that is not midnight",
        "the clock: a midnight that does not exist",
        "the clock: tasks are executed a day late",
        "the clock: a day passes in the middle",
        # S3 itself refuses what the others would do to these buckets.
        "files under object lock",
    }
)

SHORT = tuple(name for name in NAMES if not name.startswith("SIGKILL of the child") or "half-way" in name)
"""Each fault once; a killed child is like a killed worker, only noticed sooner."""


def faults_of(seed: int) -> tuple[str, ...]:
    """A round of seeds has each fault once alone, then mixes of two to four."""
    place = seed % ROUND
    if place < len(NAMES):
        return (NAMES[place],)
    random = Random(seed)
    mixable = [name for name in NAMES if name not in NEVER_MIXED]
    return tuple(random.sample(mixable, random.randint(2, 4)))


def parse(text: str) -> tuple[str, ...]:
    """`one + another` to names. KeyError for one that is not in the catalogue."""
    names = tuple(part.strip() for part in text.split(" + "))
    for name in names:
        if name not in FAULTS:
            raise KeyError(f"{name!r} is no fault; they are: {', '.join(NAMES)}")
    return names
