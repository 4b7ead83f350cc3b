"""Imports point one way: `celery | api | ops | cli → policies → retention | accounts | archive → engine → dao |
storage → models`.

Read from the source with `ast`, so that an import inside of a function counts, too. Seen to fail: an import of
`app.retention` put into `app.dao`, one of `app.clock` into `app.storage`, one of
`app.dao` into `app.storage` and one of `app.celery` into `app.api`; an f-string given to `text`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What each part may import besides itself. A part that is not here fails its test: it must be given its place.
BOTTOM = {"clock", "config", "db", "errors", "own_schema", "refusals", "revisions"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "own_schema": set(),
    "refusals": set(),
    "revisions": {"own_schema"},
    "clock": {"errors"},
    "presets": set(),
    "config": {"presets"},
    "config_reference": {"config"},
    "policies_reference": {"policies"},
    "reference": {"cli", "celery"},
    "db": {"clock", "own_schema", "refusals"},
    "logs": {"config"},
    "models": {"own_schema"},
    "storage": set(),
    "broker": {"config"},
    "proxies": {"config"},
    "observability": {"config"},
    "dao": BOTTOM | {"models"},
    "engine": BOTTOM | {"models", "dao", "storage"},
    "state": BOTTOM | {"models", "dao"},
    "retention": BOTTOM | {"models", "dao", "storage", "engine", "state", "observability"},
    "accounts": BOTTOM | {"models", "dao", "storage", "engine", "state", "observability"},
    "archive": BOTTOM | {"models", "dao", "storage", "engine", "state"},
    # Its cut-offs are the night's.
    "policies": BOTTOM | {"models", "dao", "storage", "engine", "state", "retention"},
    # What a database is like, beside what the pipeline needs.
    "adopt": BOTTOM | {"presets", "models", "dao", "retention", "state"},
    "api": BOTTOM | {"models", "dao", "retention", "accounts", "observability", "proxies"},
    "ops": BOTTOM | {"models", "dao", "retention", "state", "accounts", "broker", "proxies"},
    "doctor": BOTTOM | {"models", "dao", "retention", "state", "accounts", "storage", "broker"},
    # A worker's process makes its own application; so do people who type `flask`, whose commands send tasks.
    "celery": BOTTOM
    | {"models", "dao", "retention", "state", "accounts", "archive", "policies"}
    | {"logs", "app", "observability", "broker"},
    "cli": BOTTOM
    | {
        "presets",
        "models",
        "dao",
        "retention",
        "state",
        "accounts",
        "archive",
        "policies",
        "storage",
        "adopt",
        "celery",
        "logs",
        "doctor",
    },
    "web_worker": {"api"},
    "wiring": BOTTOM | {"retention", "accounts", "archive", "policies", "api", "ops", "cli", "logs", "observability"},
    "web_logs": {"config", "logs"},
    "app": {"config", "db", "wiring"},
    "version": set(),
    "__main__": {"app", "version"},
}
SOURCES = sorted((ROOT / "app").rglob("*.py"))


def part_of(path: Path) -> str:
    inside = path.relative_to(ROOT / "app").with_suffix("").parts
    return "app" if inside == ("__init__",) else inside[0]


def parts_imported(tree: ast.AST) -> Iterator[str]:
    """The parts of app that a module imports; `app` itself for what `app/__init__.py` defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that they can be read"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "app":
                part = rest.partition(".")[0]
                yield part if is_part(part) else "app"


def is_part(name: str) -> bool:
    return bool(name) and ((ROOT / "app" / name).is_dir() or (ROOT / "app" / f"{name}.py").is_file())


def test_the_sources_are_found():
    assert {"dao", "retention", "storage", "celery", "cli"} <= {part_of(path) for path in SOURCES}


def test_a_module_imports_only_what_lies_below_it():
    wrong = {}
    for path in SOURCES:
        part = part_of(path)
        imported = set(parts_imported(ast.parse(path.read_text()))) - {part}
        if not_below := imported - MAY_IMPORT[part]:
            wrong[str(path.relative_to(ROOT))] = sorted(not_below)
    assert wrong == {}


def test_nothing_is_allowed_that_would_close_a_circle():
    """Apart from what starts a process: `app` wires everything, and a Celery worker makes its own `app`."""
    below = {part: allowed - {"app"} for part, allowed in MAY_IMPORT.items()}
    placed: set[str] = set()
    while below:
        free = {part for part, allowed in below.items() if allowed <= placed}
        assert free, f"a circle among {sorted(below)}"
        placed |= free
        below = {part: allowed for part, allowed in below.items() if part not in free}


def statements_made_of_values(tree: ast.AST) -> Iterator[int]:
    """Lines where an f-string inside of a function is given to something that executes SQL."""
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and node.args and called(node) in EXECUTE and has_f_string(node.args[0]):
                    yield node.lineno


EXECUTE = {"text", "execute", "exec_driver_sql", "scalar", "scalars", "SQL"}


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def has_f_string(node: ast.AST) -> bool:
    """An f-string, `%` or `.format` in what is given, unless it is psycopg2's own `SQL(...).format(...)`."""
    return any(
        isinstance(inner, ast.JoinedStr) or (isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Mod))
        for inner in ast.walk(node)
    )


def test_no_statement_is_put_together_from_values_when_it_is_executed():
    found = {
        str(path.relative_to(ROOT)): list(statements_made_of_values(ast.parse(path.read_text()))) for path in SOURCES
    }
    assert {path: lines for path, lines in found.items() if lines} == {}
