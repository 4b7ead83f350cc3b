"""`python -m app.reference`: docs/reference.md, every command and every task, from the code that they are."""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
from flask import Flask

from app import cli
from app.celery.schedule import TASK_MODULES

HEAD = """# Reference

Every command and every task, written from the code by `make docs`; a test holds the two together. Settings have
[a page of their own](configuration.md). What to do with all this is in [the runbook](operations.md).

## Commands

`flask --app app …`, or `FLASK_APP=app`. Each has `--help`.

| | |
|---|---|
"""

TASKS = """
## Tasks

A message is sent by beat, by another task, or by anybody with `apply_async`; the Python name in brackets is at hand in
`flask shell`, or in its module.

| | |
|---|---|
"""


def reference() -> str:
    """The page."""
    commands = "".join(f"| `flask {name}` | {text} |\n" for name, text in sorted(_commands()))
    tasks = "".join(f"| `{name}` (`{function}`) | {text} |\n" for name, function, text in sorted(_tasks()))
    return HEAD + commands + TASKS + tasks


def _commands() -> Iterator[tuple[str, str]]:
    app = Flask("reference")
    cli.register(app)
    for name, command in app.cli.commands.items():
        yield from _named(name, command)


def _named(name: str, command: click.Command) -> Iterator[tuple[str, str]]:
    if isinstance(command, click.Group):
        for of_group, one in command.commands.items():
            yield from _named(f"{name} {of_group}", one)
    else:
        yield name, _first_paragraph(command.help or "")


def _tasks() -> Iterator[tuple[str, str, str]]:
    """Read, not imported: a task that is looked at takes its settings from the environment."""
    for module in TASK_MODULES:
        spec = find_spec(module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(module)
        for node in ast.parse(Path(spec.origin).read_text()).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "celery.task":
                    [name] = [ast.literal_eval(one.value) for one in decorator.keywords if one.arg == "name"]
                    yield name, node.name, _first_paragraph(ast.get_docstring(node) or "")


def _first_paragraph(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split()).replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
