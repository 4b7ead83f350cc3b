"""`flask retention policies`: which policies there are, where each comes from, and what the database says of them."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from app import clock
from app.dao import policy_sweeps_dao
from app.dao.policy_sweeps_dao import BLOCKED, WAITING
from app.db import db
from app.errors import BadArgument
from app.policies import checks, planning, sweeps
from app.policies.batches import Blocked
from app.policies.binding import Bound
from app.policies.forms import Disposition, Retention
from app.policies.planning import Planned
from app.policies.reading import Policy
from app.policies.registry import Registry, registry

SECONDS_BETWEEN_LOOKS = 1.0


@click.command("policies")
@click.option("--check", "is_checked", is_flag=True, help="Compare each with the database, and print missing grants.")
@click.option("--role", help="With --check: print every grant that the policies need, for this role.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def policies_command(is_checked: bool, role: str | None, as_json: bool) -> None:
    """The policies that are data: what each ends, when and how, and where it is written. Exits with 1 when something is
    wrong with one of them, or with a file.
    """
    found = registry()
    bound = _checked(found) if is_checked or role else []
    if as_json:
        click.echo(json.dumps(_told(found, bound), indent=2))
    else:
        _show(found, bound, role)
    if found.problems or any(one.problems for one in bound):
        raise SystemExit(1)


def run_policies(names: Sequence[str], *, wait: bool, dry_run: bool) -> None:
    """Start these policies now, through the workers, or say what would go."""
    try:
        if dry_run:
            for name in names:
                show_planned(planning.plan([sweeps.require(name)]))
            click.echo("Dry run: nothing was started.")
            return
        wakes = sweeps.begin_now(names)
    except (BadArgument, Blocked) as error:
        raise click.ClickException(str(error)) from None
    from app.celery.policy_tasks import send_wakes

    if not send_wakes(wakes):
        raise click.ClickException("The sweeps are open, but the broker takes no messages. They start when it does.")
    click.echo(f"{len(wakes)} sweeps started.")
    if wait:
        _wait({sweep for sweep, _ in wakes})


def _wait(ids: set[int]) -> None:
    while True:
        with db.transaction(read_only=True) as connection:
            states = policy_sweeps_dao.states(connection, ids)
        if not any(state == WAITING for state, _ in states):
            break
        time.sleep(SECONDS_BETWEEN_LOOKS)
    blocked = [str(reason) for state, reason in states if state == BLOCKED]
    click.echo(f"{len(ids) - len(blocked)} sweeps ended.")
    if blocked:
        raise click.ClickException("\n".join(blocked))


def show_planned(planned: Sequence[Planned]) -> None:
    """A line for each policy: what is past its time."""
    for one in planned:
        more = " or more" if one.is_capped else ""
        click.echo(f"{one.policy:<28} " + (one.problem or f"{one.rows:,}{more} rows past their time"))


def planned_policies() -> list[dict[str, Any]]:
    """What each policy would end now, for JSON."""
    return [asdict(one) for one in planning.plan(registry().policies.values())]


def policies_in_plan() -> None:
    """A line for each policy that would end something now, or can't."""
    show_planned([one for one in planning.plan(registry().policies.values()) if one.rows or one.problem])


def retry_policy(name: str) -> None:
    """Make the rows due that a policy holds back."""
    try:
        sweeps.require(name)
    except BadArgument as error:
        raise click.ClickException(str(error)) from None
    with db.transaction() as connection:
        count = policy_sweeps_dao.retry(connection, name, clock.now())
    start = f"start it with: flask retention run --policy {name}"
    click.echo(f"{count} are due at the policy's next time; {start}" if count else "Nothing is held back.")


def _checked(found: Registry) -> list[Bound]:
    with db.transaction(read_only=True) as connection:
        return checks.check(connection, found.policies.values())


def _show(found: Registry, bound: list[Bound], role: str | None) -> None:
    by_name = {one.policy.name: one for one in bound}
    for policy in found.policies.values():
        click.echo(f"{policy.name:<28} {_in_words(policy)}")
        one = by_name.get(policy.name)
        for note in one.notes if one else ():
            click.echo(f"{'':<28} {note}")
    if not found.policies:
        click.echo("There are no policies. RETENTION_POLICIES names a file of yours: docs/policies.md")
    for problem in (*found.problems, *(problem for one in bound for problem in one.problems)):
        click.echo(str(problem))
    if bound and not any(one.problems for one in bound):
        click.echo(f"{len(bound)} fit the database.")
    for grant in dict.fromkeys(grant for one in bound for grant in (one.grants if role else one.lacking)):
        click.echo(grant.statement(role or "retention_worker"))


def _in_words(policy: Policy) -> str:
    entry = policy.entry
    age = " or ".join(entry.age)
    return (
        f"{entry.table}: {how_long(entry.retention)} after {age}, {what_happens(entry.then)}, every {entry.every} "
        f"({policy.source.name})"
    )


def how_long(retention: Retention) -> str:
    """`7 days, or as the service keeps sms`."""
    [(unit, length)] = [(name, n) for name, n in retention.given().items() if name != "of_service_for"]
    words = f"{length} {unit}"
    return f"{words}, or as the service keeps {retention.of_service_for}," if retention.of_service_for else words


def what_happens(then: Disposition) -> str:
    """In a few words."""
    if then.move:
        return f"move to {then.move}"
    return f"redact {', '.join(then.redact)}" if then.redact else "delete"


def _told(found: Registry, bound: list[Bound]) -> dict[str, Any]:
    by_name = {one.policy.name: one for one in bound}
    return {
        "policies": [
            {
                "name": policy.name,
                "source": policy.source.name,
                "line": policy.source.line_of(policy.name),
                **policy.entry.model_dump(mode="json", exclude_unset=True, by_alias=True),
                **(_of_check(by_name[policy.name]) if policy.name in by_name else {}),
            }
            for policy in found.policies.values()
        ],
        "problems": [str(problem) for problem in found.problems],
    }


def _of_check(bound: Bound) -> dict[str, Any]:
    return {
        "problems": [str(problem) for problem in bound.problems],
        "notes": list(bound.notes),
        "grants": [grant.statement("retention_worker") for grant in bound.grants],
        "lacking": [grant.statement("retention_worker") for grant in bound.lacking],
    }
