"""Workers that are killed, told to stop, added, held up, or meet an error that nobody expects."""

from tests.faults.control import KILL_CHILD, KILL_WORKER, RAISE, SLEEP
from tests.faults.points_named import POINTS_WITH_FILES, STEP_POINTS
from tests.faults.run import Fault, Run, fault

MOST_PASSES = 6


def kill_at(point: str, action: str) -> Fault:
    """Two kills at a point: at one of its first passings, and at one soon after."""

    def fault_of_point(run: Run) -> None:
        passes = 2 if point in POINTS_WITH_FILES else MOST_PASSES
        run.arm(point, action, run.random.randint(0, passes))
        run.arm(point, action, run.random.randint(0, passes))
        run.inexact_files()

    return fault_of_point


for _point in (*STEP_POINTS, "in the fan-out"):
    fault(f"SIGKILL {_point}")(kill_at(_point, KILL_WORKER))
for _point in STEP_POINTS:
    fault(f"SIGKILL of the child {_point}")(kill_at(_point, KILL_CHILD))


@fault("SIGKILL in the night's start")
def kill_at_start(run: Run) -> None:
    run.inexact_files()
    run.arm("in the night's start", KILL_WORKER)


@fault("SIGKILL in the dispatcher")
def kill_dispatcher(run: Run) -> None:
    """It has marked chains as woken, and wakes none; a step beside it in the same worker is undone."""
    run.inexact_files()
    run.arm("in the dispatcher", KILL_WORKER, run.random.randint(0, 1))
    run.arm("in the dispatcher", KILL_WORKER)


@fault("SIGKILL while lost messages are given back")
def kill_restorer(run: Run) -> None:
    """Whoever gives the first dead worker's message back has kombu's lock for it when it dies, too."""
    run.inexact_files()
    run.arm("after the choice", KILL_WORKER, run.random.randint(0, MOST_PASSES))
    run.arm("while lost messages are given back", KILL_WORKER)


@fault("an error in the night's start")
def error_at_start(run: Run) -> None:
    """The night is noted, the message is acknowledged, and no type was sent."""
    run.arm("in the night's start", RAISE)


@fault("SIGKILL at random")
def kill_at_random(run: Run) -> None:
    def kill() -> None:
        workers = [name for name in run.lab.pool.workers if run.lab.control.is_ready(name)]
        if workers:
            run.hits += 1
            run.lab.pool.kill(run.random.choice(workers))

    run.inexact_files()
    for _ in range(run.random.randint(2, 4)):
        run.soon(kill, 2.5)


@fault("SIGKILL of every worker at once")
def kill_all(run: Run) -> None:
    def kill() -> None:
        for name in list(run.lab.pool.workers):
            run.lab.pool.kill(name)
        run.hits += 1

    run.inexact_files()
    run.soon(kill, 1.0)


@fault("SIGTERM with a short grace")
def terminate(run: Run) -> None:
    def stop() -> None:
        name = run.random.choice(list(run.lab.pool.workers))
        concurrency = run.lab.pool.workers[name]
        run.lab.pool.dismiss(name, grace_seconds=run.random.choice((0.02, 0.1, 0.5)))
        run.lab.pool.start(concurrency)
        run.hits += 1

    run.inexact_files()
    run.arm("after the choice", f"{SLEEP} 0.3", run.random.randint(0, MOST_PASSES))
    run.soon(stop, 1.0)
    run.soon(stop, 1.5)


@fault("scale-in and scale-out")
def scale(run: Run) -> None:
    pool = run.lab.pool

    def scale_in() -> None:
        for name in list(pool.workers)[1:]:
            pool.dismiss(name, grace_seconds=10)
        run.hits += 1

    def scale_out() -> None:
        run.hits += 1
        for _ in range(2):
            pool.start(1)

    def back() -> None:
        while len(pool.workers) > 3:
            pool.dismiss(list(pool.workers)[-1], grace_seconds=10)

    run.inexact_files()
    run.options.big = 60
    seconds = run.soon(scale_in, 0.8)
    run.at(seconds + 0.2, scale_out)
    run.undo(back)


@fault("an error that nobody expects")
def unexpected(run: Run) -> None:
    run.inexact_files()
    for _ in range(4):
        run.arm(run.random.choice(run.step_points), RAISE, run.random.randint(0, 3))


@fault("a task that is held up past its visibility time-out")
def held_up(run: Run) -> None:
    run.inexact_files()  # the idle time-out may end its transaction
    points = [point for point in ("after the lease", "after the choice", "after the files") if point in run.step_points]
    run.arm(run.random.choice(points), f"{SLEEP} {run.lab.visibility_seconds + 1.5}", 1)


@fault("a worker that outlives its lease")
def outlived(run: Run) -> None:
    """Its lease has run out, another worker goes on with the chain, then it wakes up and wants to commit."""
    for point in ("after the lease", "before the commit", "after the choice"):
        run.arm(point, f"{SLEEP} 1.5", run.random.randint(0, 3))
    run.inexact_files()

    def expire() -> None:
        found = run.sql("UPDATE retention.chains SET lease_until = now() WHERE lease_until > now() RETURNING id")
        run.hits += len(found)

    for tenths in range(2, 18, 3):
        run.at(tenths / 10, expire)


@fault("eight workers are slow after the choice")
def slow_after_choice(run: Run) -> None:
    """Locks are held for long, so that others look at the same rows."""
    for _ in range(8):
        run.arm("after the choice", f"{SLEEP} 0.6", run.random.randint(0, 2))
    run.options.big = 120
