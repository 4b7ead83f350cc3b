"""What a process on the embedded stack may inherit from the shell: nothing that names a real system.

Demo, tests and benchmarks seed and delete. A list of variables to remove would miss the next one that a
library learns to read, so this is a list of those to keep.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

KEPT = frozenset(
    {
        "CI",
        "COLUMNS",
        "FORCE_COLOR",
        "HOME",
        "LANG",
        "LD_LIBRARY_PATH",
        "LINES",
        "LOGNAME",
        "NO_COLOR",
        "PATH",
        "SHELL",
        "TERM",
        "TMPDIR",
        "USER",
        "VIRTUAL_ENV",
    }
)
KEPT_PREFIXES = ("LC_", "PYTHON", "PYTEST_")

# Without these botocore would still look into the home directory, and ask a cloud's metadata server.
NO_REAL_AWS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def isolated_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """A copy of `base` (the process's environment when None) from which no real system can be reached."""
    source = os.environ if base is None else base
    kept = {name: value for name, value in source.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
    return kept | NO_REAL_AWS


@contextmanager
def replaced_environment(environment: Mapping[str, str]) -> Iterator[None]:
    """Make `environment` this process's own for the length of the block, then put the old one back."""
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(environment)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
