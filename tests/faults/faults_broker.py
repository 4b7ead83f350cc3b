"""The broker goes away, or delivers twice, late or never."""

import signal
from typing import Any

from tests.faults.run import NIGHTLY, Run, fault


@fault("the broker is restarted")
def restart(run: Run) -> None:
    how = run.random.choice((signal.SIGTERM, signal.SIGKILL))

    def again() -> None:
        run.lab.broker.restart(how)
        run.hits += 1

    run.inexact_files()  # what was not acknowledged comes twice
    run.soon(again, 1.2)


@fault("the broker is away for a while")
def away(run: Run) -> None:
    broker = run.lab.broker

    def stop() -> None:
        broker.go_away(signal.SIGKILL)
        run.hits += 1

    run.inexact_files()  # what was not acknowledged comes twice
    seconds = run.soon(stop, 0.8)
    run.at(seconds + 1.5, broker.come_back)
    run.undo(broker.come_back)


@fault("messages are delivered twice")
def twice(run: Run) -> None:
    def double() -> None:
        run.hits += run.lab.broker.double()

    run.inexact_files()  # the second one takes the lease from the first, which is then undone
    for _ in range(6):
        run.soon(double, 1.5)


@fault("messages are lost")
def lost(run: Run) -> None:
    def lose() -> None:
        run.hits += len(run.lab.broker.take_away())

    for number in range(20):
        run.at(number * 0.05, lose)


@fault("messages are late")
def late(run: Run) -> None:
    held: list[Any] = []

    def hold() -> None:
        taken = run.lab.broker.take_away()
        held.extend(taken)
        run.hits += len(taken)

    def give_back() -> None:
        run.lab.broker.put_back(held)
        held.clear()

    for number in range(20):
        run.at(number * 0.05, hold)
    run.at(3.5, give_back)
    run.undo(give_back)


@fault("beat fires twice")
def beat_twice(run: Run) -> None:
    def again() -> None:
        run.hits += run.lab.broker.send(NIGHTLY, kwargs=run.options.nightly_arguments)

    run.at(0.0, again)
    run.soon(again, 1.0)
    run.soon(again, 3.0)
