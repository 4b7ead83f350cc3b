"""What the doctor found: how bad it is, what it is, and how to fix it."""

from dataclasses import asdict, dataclass
from enum import Enum


class Level(Enum):
    """How bad it is: `error` means that something does not work, or goes wrong unseen."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `fix` is empty where there is nothing to do."""

    check: str
    level: Level
    says: str
    fix: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self) | {"level": self.level.value}


def capitalised(words: str) -> str:
    """As a sentence begins; what to do may be a statement to copy, so that nothing is added at its end."""
    return f"{words[:1].upper()}{words[1:]}"


def ok(check: str, says: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, says)


def warning(check: str, says: str, fix: str) -> Finding:
    """It works, and might not be meant like this."""
    return Finding(check, Level.WARNING, says, fix)


def error(check: str, says: str, fix: str) -> Finding:
    """It does not work, or it will harm."""
    return Finding(check, Level.ERROR, says, fix)
