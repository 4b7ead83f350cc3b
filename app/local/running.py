"""How one process finds the stack that another one of the same user runs: `make shell` beside `make up`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from app.local.directory import living, usable_root

ANNOUNCEMENT = "{purpose}.environment.json"


def announce(directory: Path, purpose: str, environment: Mapping[str, str]) -> None:
    """Leave the variables of a stack in its directory, for its owner to read: they hold passwords."""
    path = directory / ANNOUNCEMENT.format(purpose=purpose)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        json.dump(dict(environment), file)


def environment_of(purpose: str, root: Path | None = None) -> dict[str, str] | None:
    """The variables of the newest living stack with this purpose; None when there is none."""
    name = ANNOUNCEMENT.format(purpose=purpose)
    announced = [path / name for path in living(root or usable_root()) if (path / name).is_file()]
    if not announced:
        return None
    environment: dict[str, str] = json.loads(max(announced, key=lambda path: path.stat().st_mtime).read_text())
    return environment
