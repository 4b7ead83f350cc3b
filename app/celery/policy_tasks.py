"""Policies that are data. A message does one batch of one sweep, and sends the next."""

from typing import Any

from app.celery import celery
from app.celery.sending import send
from app.policies import sweeps
from app.policies.sweeps import Wake
from app.retention.arguments import checked_number


@celery.task(name="dispatch-policies")
def dispatch_policies() -> None:
    """Open a sweep of each policy whose night or hour has begun, and wake sweeps that are due or have lost their worker
    or their message.
    """
    sweeps.begin_due()
    send_wakes(sweeps.take_due())


@celery.task(name="sweep-policy", bind=True)
def sweep_policy(self: Any, sweep: int, step: int) -> None:
    """One batch of a policy's sweep, and send what comes next."""
    task_id = None if self.request.called_directly else self.request.id
    wake = sweeps.run_step(checked_number("sweep", sweep), checked_number("step", step), task_id)
    send_wakes([wake] if wake else [])


def send_wakes(wakes: list[Wake]) -> bool:
    """Send a message for each, until the broker does not take one. Returns whether it took all."""
    return all(
        send(sweep_policy, "the dispatcher sends it again", kwargs={"sweep": sweep, "step": step})
        for sweep, step in wakes
    )
