"""A letter that S3 fails at. Alone in its step, often enough in a row, it is deferred, and its chain goes on.

An error of a whole request does not say whether one file is to blame or all of S3, so the chain backs off and its
batch shrinks. A letter that is left alone could keep it there for ever; an outage must not defer every letter.
ADR 0014 says why this rule does neither.
"""

from dataclasses import dataclass
from uuid import UUID

FAILURES_IN_A_ROW = 3


@dataclass(frozen=True)
class Alone:
    """The letter that stood alone when S3 failed at its files, and how often in a row it did. The chain keeps it."""

    letter: UUID | None = None
    failures: int = 0

    def failed(self, letter: UUID) -> "Alone":
        """S3 failed at this letter, which stood alone."""
        return Alone(letter, self.failures + 1 if letter == self.letter else 1)

    @property
    def is_too_often(self) -> bool:
        """Whether the letter is to be deferred now. One that was deferred before is at its first failure."""
        return self.failures >= FAILURES_IN_A_ROW


NOBODY = Alone()
