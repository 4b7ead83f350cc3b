"""All faults by name, and which of them a seed means."""

from random import Random

from tests.brokers import RABBITMQ, SQS
from tests.faults import faults_broker, faults_postgres, faults_refusals, faults_storage, faults_work, faults_workers
from tests.faults.points_named import POINTS_WITH_FILES, STEP_POINTS
from tests.faults.run import FAULTS
from tests.variants import OWN
from tests.variants.policies import LETTER, POLICIES, ZONE_OF_UTC

MODULES = (faults_workers, faults_broker, faults_postgres, faults_refusals, faults_storage, faults_work)
NAMES = tuple(FAULTS)
REFERENCES = "rows come to refer to notifications that a step has"
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

GIVEN_BACK = "SIGKILL while lost messages are given back"
ON_REDIS_ONLY = "workers give messages back on Redis alone"
LEFT_OUT_ON_BROKER = {
    RABBITMQ: {
        GIVEN_BACK: ON_REDIS_ONLY,
        "a task that is held up past its visibility time-out": "there is none: a message comes back when its "
        "connection ends",
    },
    SQS: {GIVEN_BACK: ON_REDIS_ONLY},
}
WITH_FILES = tuple(
    name
    for name, function in FAULTS.items()
    if function.__module__ == faults_storage.__name__ or name.endswith(POINTS_WITH_FILES)
)
CLOCK_CHANGES = tuple(name for name in NAMES if name.startswith("the clock: a night in "))


def left_out(broker: str, variant: str) -> dict[str, str]:
    """Faults that have no meaning on the broker or the platform, and why."""
    policy = POLICIES[variant]
    found = dict(LEFT_OUT_ON_BROKER.get(broker, {}))
    if not policy.buckets:
        found |= dict.fromkeys(
            WITH_FILES, "its letters have no files" if LETTER in policy.types else "it has no letters"
        )
    if policy.zone == ZONE_OF_UTC:
        found |= dict.fromkeys(CLOCK_CHANGES, "its nights are UTC's, which has no such hour")
    if not policy.deferring:
        found[REFERENCES] = "nothing points at its notifications"
    return found


SHORT = tuple(name for name in NAMES if not name.startswith("SIGKILL of the child") or "half-way" in name)
"""Each fault once; a killed child is like a killed worker, only noticed sooner."""

COMPACT = (
    *(tuple(f"SIGKILL {point}" for point in STEP_POINTS[first::3]) for first in range(3)),
    ("SIGKILL in the night's start", "SIGKILL in the fan-out", "SIGKILL in the dispatcher"),
    ("SIGKILL of the child after the files", "S3 breaks off half-way through deletes", "connections are cut"),
    ("SIGKILL of the child after the commit and before the enqueue", "eight chains for one service"),
    (GIVEN_BACK,),
    ("SIGTERM with a short grace", "scale-in and scale-out"),
    ("a task that is held up past its visibility time-out",),
    ("the broker is restarted", "messages are lost"),
    ("the broker is away for a while", "messages are late"),
    ("messages are delivered twice", "beat fires twice", "two chains for one service"),
)
"""Runs of two minutes: what may go differently on another broker."""

ON_ANOTHER_PLATFORM = (
    "connections are cut",
    "the database refuses single rows",
    "S3 refuses single keys for good",
    "buckets that keep versions",
    "SIGKILL half-way through the files",
    "SIGKILL before the commit",
    "eight chains for one service",
    "receipts arrive for rows that a step has",
    REFERENCES,
    "rows with an old created_at arrive",
    "the clock: a night in spring, an hour is missing",
    "a cut-off that is not midnight",
)
"""Of the short form, what the suite does on va-notify: README.md says why there, and why these."""

IN_THE_SUITE = (COMPACT[0], COMPACT[-1])
"""Of these, the suite does so many on each broker but Valkey: on SQS a run takes a minute, since a lost message is back
after its visibility time-out only. What SIGTERM does there is in tests/acceptance/test_brokers.py. All of them: `make
faults-short BROKER=…`.
"""


def faults_of(seed: int) -> tuple[str, ...]:
    """A round of seeds has each fault once alone, then mixes of two to four."""
    place = seed % ROUND
    if place < len(NAMES):
        return (NAMES[place],)
    random = Random(seed)
    mixable = [name for name in NAMES if name not in NEVER_MIXED]
    return tuple(random.sample(mixable, random.randint(2, 4)))


def possible(names: tuple[str, ...], broker: str, variant: str = OWN) -> tuple[str, ...]:
    """Those that have a meaning there. A seed means the same everywhere, but for what is left out."""
    without = left_out(broker, variant)
    return tuple(name for name in names if name not in without)


def parse(text: str) -> tuple[str, ...]:
    """`one + another` to names. KeyError for one that is not in the catalogue."""
    names = tuple(part.strip() for part in text.split(" + "))
    for name in names:
        if name not in FAULTS:
            raise KeyError(f"{name!r} is no fault; they are: {', '.join(NAMES)}")
    return names
