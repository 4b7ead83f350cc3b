"""`make audit` never takes silence for an answer. Seen to fail: skipped packages counted as audited."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
CLEAN = {"name": "flask", "version": "3", "vulns": []}
SKIPPED = {"name": "click", "skip_reason": "not found"}
BAD = {"name": "kombu", "version": "5", "vulns": [{"id": "PYSEC-1", "fix_versions": ["5.7"]}]}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([CLEAN], 0, "1 packages, no known vulnerability."),
        ([CLEAN, BAD], 1, "kombu 5: PYSEC-1, fixed in 5.7"),
        ([BAD, SKIPPED], 1, "1 of 2 packages were not audited: click."),
        ([CLEAN, SKIPPED], 2, "1 of 2 packages were not audited: click."),
        (
            [SKIPPED],
            2,
            "Nothing was audited: the vulnerability service answers for none of the packages.",
        ),
        ([], 2, "Nothing was audited: the lock files name no package."),
    ],
)
def test_only_packages_that_were_looked_up_count(audit, packages, status, said):
    ended, lines = audit.verdict(json.dumps({"dependencies": packages}), "")
    assert (ended, lines[-1]) == (status, said)


def test_a_service_that_does_not_answer_is_said_in_a_sentence(audit):
    ended, lines = audit.verdict("", "Traceback\nConnectionError: no route\n")
    assert (ended, lines) == (
        2,
        ["Nothing was audited: the vulnerability service can't be reached (ConnectionError: no route)."],
    )


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_every_locked_package_is_pinned_with_hashes(lock):
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text())
    packages = [entry for entry in entries if not entry.startswith("#") and entry.strip()]
    assert len(packages) > 20
    assert [entry.splitlines()[0] for entry in packages if "==" not in entry or "--hash=sha256:" not in entry] == []
