"""Find the rows that the database refuses: by halving, in a bounded number of trials. Pure.

A trial removes some of the rows and says why the database refuses, if it does; its effect is undone. Each refused row
costs at most 2·log₂(rows) + 2 trials. Rows about which no trial has decided by the end stay where they are.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from app.refusals import Refusal

MOST_TRIALS = 48
"""A transaction: every trial is a savepoint, and past 64 of them PostgreSQL's snapshots become slow for everybody."""
MOST_REFUSED = 20
"""Past so many refused rows something is wrong with more than single rows: it is for a person to look at."""

Key = TypeVar("Key", bound=Hashable)
"""What tells rows apart: an id, or a row's place in its table."""
Trial = Callable[[Sequence[Key]], Refusal | None]


@dataclass
class Isolated(Generic[Key]):
    """What the trials found. Every row is in `good`, in `refused` or in `undecided`."""

    good: list[Key] = field(default_factory=list)
    refused: dict[Key, Refusal] = field(default_factory=dict)
    undecided: list[Key] = field(default_factory=list)
    everything: Refusal | None = None
    """The first, the middle and the last row were refused for the same reason: so is every row."""
    trials: int = 0


def isolate(ids: Sequence[Key], trial: Trial[Key], *, is_time_up: Callable[[], bool] = lambda: False) -> Isolated[Key]:
    """Sort rows, which the database refused when tried together, into good, refused and undecided ones.

    `ids` are in the order in which rows are removed. `is_time_up` ends the search early.
    """
    return _Search(trial, is_time_up).run(list(ids))


class _Search(Generic[Key]):
    def __init__(self, trial: Trial[Key], is_time_up: Callable[[], bool]) -> None:
        self._trial, self._is_time_up = trial, is_time_up
        self._found: Isolated[Key] = Isolated()

    def run(self, ids: list[Key]) -> Isolated:
        found = self._found
        samples = list(dict.fromkeys((ids[0], ids[len(ids) // 2], ids[-1])))
        reasons = {id_: self._try([id_]) for id_ in samples}
        found.refused = {id_: reason for id_, reason in reasons.items() if reason is not None}
        alike = {(reason.kind, reason.sqlstate) for reason in found.refused.values()}
        if len(samples) > 2 and len(found.refused) == len(samples) and len(alike) == 1:
            found.everything = found.refused[samples[0]]
            found.refused, found.undecided = {}, ids
            return found
        # When a sample was refused, nothing is known of the rest; otherwise the rest is where the refused row is.
        rest = [id_ for id_ in ids if id_ not in found.refused]
        self._sort(rest, is_refused=not found.refused)
        found.good.sort(key={id_: place for place, id_ in enumerate(ids)}.__getitem__)
        return found

    def _sort(self, group: list[Key], *, is_refused: bool) -> None:
        """Sort a group. `is_refused`: the database is known to refuse it as a whole."""
        found = self._found
        if not group:
            return
        if self._is_over():
            found.undecided += group
        elif len(group) == 1:
            reason = self._try(group)
            if reason is None:
                found.good += group
            else:
                found.refused[group[0]] = reason
        elif not is_refused and self._try(group) is None:
            found.good += group
        else:
            self._halve(group)

    def _halve(self, group: list[Key]) -> None:
        left, right = group[: len(group) // 2], group[len(group) // 2 :]
        refused_before = len(self._found.refused)
        undecided_before = len(self._found.undecided)
        self._sort(left, is_refused=False)
        left_is_good = (len(self._found.refused), len(self._found.undecided)) == (refused_before, undecided_before)
        self._sort(right, is_refused=left_is_good)

    def _try(self, ids: Sequence[Key]) -> Refusal | None:
        self._found.trials += 1
        return self._trial(ids)

    def _is_over(self) -> bool:
        found = self._found
        return found.trials >= MOST_TRIALS or len(found.refused) > MOST_REFUSED or self._is_time_up()
