"""A worker that is killed: a process of its own that forks one for each order, which kills itself on the way.

An order is a line `user point`. The fork does what a worker does with a message for the user, and sends itself SIGKILL
when the work comes to that point; it is answered with the signal, or with the exit status. The points are where a batch
has been done and counted, and is not yet committed: what lies before it is, and what lies behind it has not begun.
"""

import os
import signal
import sys
from uuid import UUID, uuid4

from app import create_app
from app.accounts import deletion
from app.dao.user_deletions_dao import DELETIONS
from app.engine import leases


def main() -> None:
    """Read orders until there are no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # where the product logs
    app = create_app()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        user, point = line.split()
        child = os.fork()
        if child == 0:
            with app.app_context():
                _die_at(int(point))
                deletion.run(UUID(user), str(uuid4()))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
        print(ended, file=answers, flush=True)


def _die_at(point: int) -> None:
    reached = 0

    def with_a_point(name, function):
        def wrapper(*arguments, **named):
            nonlocal reached
            result = function(*arguments, **named)
            if arguments[1].table is not DELETIONS or (name == "change" and "due_at" in named):
                return result  # a confirmation, or the lease itself
            if reached == point:
                os.kill(os.getpid(), signal.SIGKILL)
            reached += 1
            return result

        return wrapper

    for name in ("change", "give_back"):
        setattr(leases, name, with_a_point(name, getattr(leases, name)))


if __name__ == "__main__":
    main()
