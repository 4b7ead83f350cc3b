import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from dev.directory import MARKER, PREFIX, StackDirectory, living, sweep

ABANDON = """
import os, sys
from pathlib import Path
from dev.directory import StackDirectory
directory = StackDirectory(Path(sys.argv[1]))
(directory.path / "postgres" / "data").mkdir(parents=True)
(directory.path / "postgres" / "data" / "PG_VERSION").write_text("18")
(directory.path / "postgres.log").write_text("a log")
print(directory.path)
sys.stdout.flush()
os._exit(9)
"""


@pytest.fixture
def abandoned(tmp_path: Path) -> Path:
    """The directory of an owner that ended without a chance to remove it."""
    owner = subprocess.run([sys.executable, "-c", ABANDON, tmp_path], stdout=subprocess.PIPE, text=True)
    path = Path(owner.stdout.strip())
    assert (path / "postgres" / "data" / "PG_VERSION").exists()
    return path


def test_a_directory_whose_owner_died_is_swept(tmp_path: Path, abandoned: Path) -> None:
    assert living(tmp_path) == []
    assert sweep(tmp_path) == [abandoned]
    assert list(tmp_path.iterdir()) == []


def test_the_directory_of_a_living_stack_is_not_swept(tmp_path: Path) -> None:
    directory = StackDirectory(tmp_path)
    assert sweep(tmp_path) == []
    assert living(tmp_path) == [directory.path]
    directory.remove()
    assert list(tmp_path.iterdir()) == []


def test_nothing_without_our_prefix_and_marker_is_swept(tmp_path: Path, abandoned: Path) -> None:
    (tmp_path / "somebody-elses").mkdir()
    (tmp_path / "somebody-elses" / MARKER).touch()
    (tmp_path / f"{PREFIX}unmarked").mkdir()
    (tmp_path / f"{PREFIX}file").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "somebody-elses")
    before = set(tmp_path.iterdir())
    assert sweep(tmp_path) == [abandoned]
    assert set(tmp_path.iterdir()) == before - {abandoned}
    assert (tmp_path / "somebody-elses" / MARKER).exists()


def test_what_a_link_in_a_swept_directory_points_to_stays(tmp_path: Path, abandoned: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (abandoned / "link").symlink_to(tmp_path / "precious")
    (abandoned / "postgres" / "link").symlink_to(tmp_path / "precious")
    assert sweep(tmp_path) == [abandoned]
    assert (tmp_path / "precious" / "file").exists()


def test_two_sweeps_at_once_do_not_meet(tmp_path: Path, abandoned: Path) -> None:
    with (abandoned / MARKER).open("r+") as other_sweep:
        fcntl.flock(other_sweep, fcntl.LOCK_EX)
        assert sweep(tmp_path) == []
    assert sweep(tmp_path) == [abandoned]


def test_other_users_cannot_look_into_a_directory(tmp_path: Path) -> None:
    directory = StackDirectory(tmp_path)
    assert directory.path.stat().st_mode & 0o066 == 0
    directory.remove()
