"""`make mutants`: put faults into a copy of the product, one at a time, and see that tests notice.

    python -m tests.mutants                     all of mutants.toml
    python -m tests.mutants --only storage      those with this in their file, text or tests
    python -m tests.mutants --at COMMIT         on the tests and the product of a commit

Each line of the table is a fault and what became of it: `caught`, `SURVIVED`, or `NOT THERE` where the file no longer
has the text. Exit status 1 unless each was caught.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parents[1]
MUTANTS = Path(__file__).with_suffix(".toml")
PASSED, FAILED = 0, 1
SECONDS_MOST = 900


@dataclass(frozen=True)
class Mutant:
    """A fault: the text that is replaced, and the tests that must notice."""

    file: str
    old: str
    new: str
    tests: str
    was: str = ""
    """Where the file was in older commits."""

    @property
    def name(self) -> str:
        return f"{self.file}: `{' '.join(self.old.split())}` → `{' '.join(self.new.split())}`"


def listed() -> list[Mutant]:
    return [Mutant(**one) for one in tomllib.loads(MUTANTS.read_text())["mutant"]]


@contextmanager
def copy(commit: str | None) -> Iterator[Path]:
    """The tracked files of the tree, or those of a commit, in a directory of their own."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # root's PostgreSQL runs as another user
        if commit:
            archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
            subprocess.run(["tar", "-x", "-C", name], input=archive, check=True)
        else:
            tracked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
            files = subprocess.run(tracked, cwd=ROOT, capture_output=True, check=True, text=True).stdout
            for file in filter(None, files.split("\0")):
                if (ROOT / file).is_file():
                    (directory / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(ROOT / file, directory / file)
        yield directory


def run(directory: Path, tests: str) -> int | None:
    """pytest's exit status, at the first failure; None where it took too long."""
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *shlex.split(tests)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(
            argv, cwd=directory, env=environment, capture_output=True, timeout=SECONDS_MOST
        ).returncode
    except subprocess.TimeoutExpired:
        return None


def verdict(directory: Path, mutant: Mutant) -> str:
    """What becomes of it; the file is put back."""
    path = next((directory / file for file in (mutant.file, mutant.was) if (directory / file).is_file()), directory)
    before = path.read_text() if path.is_file() else ""
    if mutant.old not in before:
        return "NOT THERE"
    path.write_text(before.replace(mutant.old, mutant.new, 1))
    try:
        status = run(directory, mutant.tests)
    finally:
        path.write_text(before)
    known = {PASSED: "SURVIVED", FAILED: "caught", None: "took too long"}
    return known.get(status, f"pytest ended with {status}")


class Bench:
    """Copies, each of which one thread has at a time, and what is known of selections on the product as it is."""

    def __init__(self, copies: list[Path]) -> None:
        self._free: Queue[Path] = Queue()
        for one in copies:
            self._free.put(one)
        self._passes: dict[str, bool] = {}

    def judge(self, mutant: Mutant) -> str:
        """The verdict; a test that fails anyway has caught nothing."""
        directory = self._free.get()
        try:
            found = verdict(directory, mutant)
            if found == "caught" and mutant.tests not in self._passes:
                self._passes[mutant.tests] = run(directory, mutant.tests) == PASSED
        finally:
            self._free.put(directory)
        return "its tests fail anyway" if found == "caught" and not self._passes[mutant.tests] else found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("--only", default="", help="those with this in their file, text or tests")
    parser.add_argument("--at", metavar="COMMIT", help="the product and the tests of this commit")
    parser.add_argument("--processes", type=int, default=2, help="so many at a time")
    given = parser.parse_args()
    chosen = [mutant for mutant in listed() if given.only in f"{mutant.name} {mutant.tests}"]
    verdicts = []
    with ExitStack() as ends:
        copies = [ends.enter_context(copy(given.at)) for _ in range(given.processes)]
        threads = ends.enter_context(ThreadPoolExecutor(given.processes))
        for mutant, found in zip(chosen, threads.map(Bench(copies).judge, chosen), strict=True):
            verdicts.append(found)
            print(f"{found:<10} {mutant.name}", flush=True)
    caught = verdicts.count("caught")
    print(f"{caught} of {len(verdicts)} caught")
    return 0 if caught == len(verdicts) > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
