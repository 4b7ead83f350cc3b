"""No SQL is put together from values anywhere in `app`: statements are constants, what varies is bound.

A string that reads like SQL may be made of constants of its module (names in capitals), psycopg2's
`sql.SQL(…).format(…)` takes identifiers and fragments, and that is all. Seen to fail: an f-string with a local name,
`%`, `+` and `.format` of values, each put into app/dao/holds_dao.py.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "app").rglob("*.py"))
SQL = re.compile(
    r"\b(SELECT\s|INSERT\s+INTO\s|UPDATE\s+[\w.{]+\s+(AS\s+\w+\s+)?SET\s|DELETE\s+FROM\s|TRUNCATE\s|"
    r"(CREATE|ALTER|DROP)\s+(TEMP\s+)?(TABLE|DATABASE|SCHEMA|ROLE|INDEX|FUNCTION|TRIGGER)\s|WHERE\s+\S+\s*(=|<|>|IN\b)|"
    r"SET\s+(LOCAL\s+)?\w+\s*=)"
)
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")


def statements_of_values(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and kind of each string that reads like SQL and is put together from something that is no constant."""
    constants = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and is_statement(target)
    }
    composed = {
        id(call.func.value)  # sql.SQL(...).format(...) and what is inside of it
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and is_method(call, "format") and is_psycopg2_sql(call.func.value)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and SQL.search(literal(node)):
            parts = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
            if not all(is_constant(part) for part in parts):
                yield node.lineno, "f-string"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.Add) and SQL.search(literal(node)):
            if not all(is_constant(side) for side in (node.left, node.right)):
                yield node.lineno, "operator"
        elif isinstance(node, ast.Call) and is_method(node, "format") and id(node.func.value) not in composed:
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
            statement = constants.get(getattr(node.func.value, "id", ""), node.func.value)
            reads_like_sql = SQL.search(literal(statement)) and not is_psycopg2_sql(statement)
            if reads_like_sql and not all(is_constant(value) for value in values):
                yield node.lineno, "format"
        elif isinstance(node, ast.Call) and is_method(node, "join") and SQL.search(literal(node)):
            yield node.lineno, "join"


def is_method(call: ast.Call, name: str) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == name


def is_psycopg2_sql(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and (
        is_method(node, "SQL") and getattr(node.func.value, "id", "") == "sql"  # type: ignore[attr-defined]
    )


def is_statement(node: ast.AST) -> bool:
    """`STATEMENT.format(…)`: a constant, whatever it holds."""
    return isinstance(node, ast.Name) and CONSTANT.fullmatch(node.id) is not None


def is_constant(node: ast.AST) -> bool:
    """A literal, a name in capitals, or those put together; `_KIND[kind]` too, whose values are constants."""
    if isinstance(node, ast.Subscript):
        return is_statement(node.value)
    if isinstance(node, ast.BinOp):
        return is_constant(node.left) and is_constant(node.right)
    if isinstance(node, ast.Call) and is_method(node, "format"):
        return is_statement(node.func.value) and all(is_constant(keyword.value) for keyword in node.keywords)
    return isinstance(node, ast.Constant) or is_statement(node)


def literal(node: ast.AST) -> str:
    """The text that is written in the source at this node."""
    inside = [inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant)]
    return " ".join(value for value in inside if isinstance(value, str))


def test_no_statement_is_made_of_values():
    assert {"dao", "retention", "cli"} <= {path.parent.name for path in SOURCES}
    found = {str(path.relative_to(ROOT)): list(statements_of_values(ast.parse(path.read_text()))) for path in SOURCES}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("f\"SELECT 1 FROM t WHERE id = '{value}'\"", "f-string"),
        ('f"{COLUMNS} DELETE FROM t WHERE id = {self.id}"', "f-string"),
        ('"DELETE FROM t WHERE id = %s" % value', "operator"),
        ('"DELETE FROM t WHERE id = " + value', "operator"),
        ('"SELECT {} FROM t".format(value)', "format"),
        ('STATEMENT = "SELECT {}  FROM t"; STATEMENT.format(value)', "format"),
        ('text("TRUNCATE " + table)', "operator"),
        ('"SELECT a WHERE b IN (" + ", ".join(values) + ")"', "operator"),
        ('f"SET lock_timeout = {seconds}"', "f-string"),
    ],
)
def test_what_is_put_together_from_values_is_seen(source, kind):
    assert kind in {found for _, found in statements_of_values(ast.parse(source))}


@pytest.mark.parametrize(
    "source",
    [
        'f"SELECT {COLUMNS} FROM t WHERE {OF_GROUP}"',
        'text("SELECT 1 WHERE id = :id")',
        'sql.SQL("SELECT {} FROM t").format(sql.Identifier(name))',
        'f"Select a service: {name}"',
        'COPY = sql.SQL("SELECT {} FROM t"); COPY.format(sql.Identifier(name))',
        'OVERDUE + " AND " + _KIND[kind]',
    ],
)
def test_what_is_made_of_constants_is_let_pass(source):
    assert list(statements_of_values(ast.parse(source))) == []
