"""Which tests one of pytest's processes is given at a time, and in which order; only where there are several processes.

A file is given whole: its fixtures are started once. One that takes minutes is given in parts, each of which starts
them again. What takes long comes first, so that all processes end together.
"""

from zlib import crc32

import pytest
from xdist.scheduler import LoadScopeScheduling

PARTS = {
    "tests/faults/test_faults_short.py": 4,
    "tests/faults/test_faults_platform.py": 2,
    "tests/acceptance/test_demo.py": 3,
    "tests/acceptance/test_workers.py": 2,
    "tests/security/test_database_role.py": 3,
    "tests/security/test_accounts_role.py": 2,
    "tests/security/test_messages_fuzz.py": 2,
    "tests/integration/test_install.py": 3,
    "tests/integration/test_adopt.py": 2,
    "tests/integration/test_letter_files.py": 2,
}
"""Into how many parts a file is divided."""
FIRST = (
    "tests/faults/test_faults_",
    "tests/acceptance/test_demo.py",
    "tests/benchmarks/",
    "tests/acceptance/",
    "tests/browser/",
    "tests/integration/test_query_plans.py",
    "tests/integration/test_variant_plans.py",
    "tests/promises/",
    "tests/security/",
    "tests/neighbours/",
    "tests/integration/",
    "tests/migrations/",
)
"""What takes longest first."""


class InParts(LoadScopeScheduling):
    """By file, or by part of a file."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return f"{file} {crc32(nodeid.encode()) % PARTS[file]}" if file in PARTS else file


def put_longest_first(items: list[pytest.Item]) -> None:
    """In the order of FIRST; within it, as they were found."""

    def place(item: pytest.Item) -> int:
        return next((place for place, start in enumerate(FIRST) if item.nodeid.startswith(start)), len(FIRST))

    items.sort(key=place)
