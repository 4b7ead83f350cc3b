"""The documents agree with the code.

Seen to fail, of the last to come: a row of the threat model with a test that there is not.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import reference as commands_and_tasks
from app.config_reference import reference
from app.ops.metric_names import ALL
from tests.unit.test_celery_configuration import NAMES

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)")


def test_the_configuration_page_is_what_the_settings_say() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == reference(), "run: make docs"


def test_the_reference_has_every_command_and_every_task_and_no_others() -> None:
    assert (ROOT / "docs" / "reference.md").read_text() == commands_and_tasks.reference(), "run: make docs"


def test_the_reference_is_of_the_tasks_that_there_are_and_says_something_of_each() -> None:
    page = (ROOT / "docs" / "reference.md").read_text()
    assert set(re.findall(r"^\| `([a-z-]+)` \(`[a-z_]+`\) \|", page, re.MULTILINE)) == set(NAMES.values())
    assert not re.findall(r"^.*\|\s*\|$", page.replace("| | |", ""), re.MULTILINE)


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if "adr" not in path.parts], ids=lambda path: path.name
)
def test_a_document_names_only_commands_that_there_are(document: Path) -> None:
    there_are = set(re.findall(r"^\| `flask ([a-z -]+)`", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE))
    there_are |= {name.rpartition(" ")[0] for name in there_are}  # groups
    groups = {name.split()[0] for name in there_are if " " in name}
    named = set(re.findall(r"flask (?:--app app )?([a-z]+ [a-z][a-z-]+)", document.read_text()))
    assert {name for name in named if name.split()[0] in groups} - there_are == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    targets = LINK.findall(document.read_text())
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert missing == []


def test_the_threat_model_names_a_test_that_there_is_in_every_row() -> None:
    page = ROOT / "docs" / "threat-model.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")][2:]
    shown = {row: re.findall(r"\[([^]]+)\]\(([^)]+\.py)\)", row.rsplit("|", 2)[1]) for row in rows}
    assert [row for row, tests in shown.items() if not tests] == []
    named = {(name, file) for tests in shown.values() for name, file in tests}
    missing = [
        (name, file)
        for name, file in named
        if f"def test_{name.replace(' ', '_')}(" not in (page.parent / file).read_text()
    ]
    assert missing == []


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    pages = {path.name for path in (ROOT / "docs" / "adr").glob("[0-9]*.md")}
    assert pages == set(re.findall(r"\((\d{4}-[a-z-]+\.md)\)", index))
    assert pages


OBSERVABILITY = ROOT / "docs" / "observability.md"
METRIC_ROW = re.compile(r"^\| `(retention_\w+)` \| (\w+) \| ([^|]*) \|", re.MULTILINE)
EVENT_ROW = re.compile(r"^\| `([a-z-]+)` \| (info|warning|error) \|", re.MULTILINE)
LEVELS = ("debug", "info", "warning", "error", "critical", "exception")


def events_logged(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Name and level of each event; one that is no constant, or no choice of two, fails."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LEVELS
            and getattr(node.func.value, "id", "") == "log"
        ):
            event = node.args[0]
            for name in (event.body, event.orelse) if isinstance(event, ast.IfExp) else (event,):
                assert isinstance(name, ast.Constant), f"an event's name is a constant: {ast.unparse(node)}"
                yield name.value, node.func.attr


def test_every_metric_is_documented_with_its_kind_and_labels() -> None:
    documented = {
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in METRIC_ROW.findall(OBSERVABILITY.read_text())
    }
    assert documented == {(one.name, one.kind, one.labels) for one in ALL}


def test_every_log_event_is_documented_with_its_level() -> None:
    logged = {event for path in (ROOT / "app").rglob("*.py") for event in events_logged(ast.parse(path.read_text()))}
    assert set(EVENT_ROW.findall(OBSERVABILITY.read_text())) == logged
    assert ("step", "info") in logged
