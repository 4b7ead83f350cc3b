"""The registry: the policies that are built in, and those of a team's own file.

A file that can't be read, or an entry that is wrong, stops none of the others. It is read once, when a process starts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from flask import current_app

from app.policies.reading import Policy, Problem, Read, read_file

BUILT_IN = Path(__file__).with_name("built_in.toml")


@dataclass(frozen=True)
class Registry:
    """Policies by name, and what is wrong with the files."""

    policies: Mapping[str, Policy]
    problems: tuple[Problem, ...] = ()


def load(own: str | None, built_in: Path = BUILT_IN) -> Registry:
    """The policies that are built in, and those of the team's file, if one is named."""
    first = read_file(built_in)
    second = read_file(Path(own)) if own else Read()
    policies = {policy.name: policy for policy in first.policies}
    problems = [*first.problems, *second.problems]
    for policy in second.policies:
        if policy.name in policies:
            problems.append(policy.problem("a policy of this name is built in; give yours another"))
        else:
            policies[policy.name] = policy
    moves = {policy.entry.table: policy.entry.then.move for policy in policies.values() if policy.entry.then.move}
    for policy in list(policies.values()):
        if policy.entry.then.move and _comes_back(policy.entry.table, moves):
            problems.append(policy.problem("what is moved there comes back by another policy", "then", "move"))
            del policies[policy.name]
    return Registry(MappingProxyType(policies), tuple(problems))


def _comes_back(table: str, moves: Mapping[str, str]) -> bool:
    at: str | None = moves.get(table)
    for _ in moves:
        if at is None or at == table:
            break
        at = moves.get(at)
    return at == table


def registry() -> Registry:
    """The application's registry. Needs an application context."""
    found: Registry = current_app.extensions["policies"]
    return found
