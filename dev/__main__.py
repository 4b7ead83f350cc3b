"""`python -m dev demo | up | shell`: what `make` calls. And `break-bucket`, `fix-bucket`, to try the page on."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dev.processes import StartError
from dev.product import ROOT
from dev.signals import endings_insist

INTERRUPTED = 130
STATE = ROOT / ".local" / "stack.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dev")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="seed, run one night and verify it, on embedded servers")
    demo.add_argument("--scale", type=_scale, default=1.0, help="how many times the ordinary 33,000 notifications")
    for name, says in {
        "up": "keep web, workers, beat and the embedded servers running",
        "shell": "flask shell on what `up` runs",
    }.items():
        command = commands.add_parser(name, help=says)
        command.add_argument("--state", type=Path, default=STATE, help=argparse.SUPPRESS)  # for tests
    for name, says in {
        "break-bucket": "make a bucket of what `up` runs refuse everything, with overdue letters in it",
        "fix-bucket": "make it answer again",
    }.items():
        command = commands.add_parser(name, help=says)
        command.add_argument("bucket", help="such as local-letters-pdf")
        command.add_argument("--state", type=Path, default=STATE, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        with endings_insist():
            return _run(options)
    except KeyboardInterrupt:
        print("Stopped; everything is removed.")
        return INTERRUPTED
    except StartError as error:
        print(error, file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    """Each imports what it needs alone: a shell should not wait for a demo's libraries."""
    if options.command == "demo":
        from dev import demo

        return demo.run(options.scale)
    from dev import up

    if options.command == "break-bucket":
        return up.break_bucket(options.state, options.bucket)
    if options.command == "fix-bucket":
        return up.fix_bucket(options.state, options.bucket)
    return up.shell(options.state) if options.command == "shell" else up.run(options.state)


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0
    if not 0 < scale <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, at most 1000")
    return scale


if __name__ == "__main__":
    sys.exit(main())
