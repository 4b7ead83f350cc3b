"""A policy file's text, read: policies, and a problem with its line for each thing that is wrong. Raises nothing."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.policies import redaction
from app.policies.forms import Entry

MOST_BYTES = 1024 * 1024
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_SYNTAX = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)", re.DOTALL)
_PART = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_HEADER = re.compile(rf"\s*\[\s*({_PART}(?:\s*\.\s*{_PART})*)\s*\]\s*(?:#.*)?")
_ASSIGNED = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")
_PARTS = re.compile(_PART)
_QUOTES = ('"""', "'''")


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file, a policy, or a key of it."""

    source: str
    line: int
    policy: str | None
    key: str | None
    sentence: str

    def __str__(self) -> str:
        about = " ".join(filter(None, (self.policy and f"[{self.policy}]", self.key)))
        return f"{self.source}, line {self.line}: {about + ': ' if about else ''}{self.sentence}"


@dataclass(frozen=True)
class Source:
    """A file: its name, and the lines that its keys are on."""

    name: str
    text: str = field(repr=False)

    def line_of(self, *keys: str) -> int:
        """The line of a key, or of the nearest one around it that has a line of its own."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self._lines:
                return self._lines[keys[:length]]
        return 1

    @cached_property
    def _lines(self) -> Mapping[tuple[str, ...], int]:
        found: dict[tuple[str, ...], int] = {}
        header: tuple[str, ...] = ()
        inside = None
        for number, line in enumerate(self.text.splitlines(), start=1):
            if inside is None:
                if match := _HEADER.fullmatch(line):
                    header = _split(match[1])
                    found.setdefault(header, number)
                elif match := _ASSIGNED.match(line):
                    keys = header + _split(match[1])
                    for length in range(1, len(keys) + 1):
                        found.setdefault(keys[:length], number)
            inside = _inside(line, inside)
        return found


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in _PARTS.findall(dotted))


def _inside(line: str, inside: str | None) -> str | None:
    """The quotes of a text of several lines that is open at the line's end."""
    for quotes in _QUOTES:
        if inside in (None, quotes) and line.count(quotes) % 2:
            return quotes if inside is None else None
    return inside


@dataclass(frozen=True)
class Policy:
    """An entry with its name, and where it is written."""

    name: str
    source: Source
    entry: Entry

    def problem(self, sentence: str, *keys: str) -> Problem:
        """What is wrong with the policy, or with a key of it."""
        return problem(self.source, sentence, self.name, *keys)


@dataclass(frozen=True)
class Read:
    """What a file has come to."""

    policies: tuple[Policy, ...] = ()
    problems: tuple[Problem, ...] = ()


def problem(source: Source, sentence: str, policy: str | None = None, *keys: str) -> Problem:
    """A problem at the line where the key is."""
    line = source.line_of(policy, *keys) if policy else 1
    return Problem(source.name, line, policy, ".".join(keys) or None, sentence)


def read_file(path: Path) -> Read:
    """The file's policies. One that can't be read is a problem."""
    empty = Source(path.name, "")
    try:
        content = path.read_bytes()
    except OSError as error:
        return Read(problems=(problem(empty, f"the file can't be read: {error.strerror}"),))
    if len(content) > MOST_BYTES:
        return Read(problems=(problem(empty, f"the file has more than {MOST_BYTES:,} bytes"),))
    try:
        return read(path.name, content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return Read(problems=(Problem(path.name, line, None, None, "the file is not UTF-8"),))


def read(name: str, text: str) -> Read:
    """The policies of a text."""
    source = Source(name, text)
    try:
        document = tomllib.loads(text)
    except RecursionError:
        return Read(problems=(problem(source, "it is nested too deeply"),))
    except ValueError as error:  # also of a number that Python refuses to read
        return Read(problems=(_syntax(source, str(error)),))
    policies, problems = [], []
    for policy, keys in document.items():
        entry, found = _entry(source, policy, keys)
        problems += found
        if entry is not None:
            policies.append(Policy(policy, source, entry))
    return Read(tuple(policies), tuple(problems))


def _syntax(source: Source, message: str) -> Problem:
    match = _SYNTAX.fullmatch(message)
    at_end = source.text.count("\n") + 1
    line = int(match["line"] or at_end) if match else 1
    what = match["what"] if match else message
    return Problem(source.name, line, None, None, f"it is no TOML: {what[:1].lower()}{what[1:]}")


def _entry(source: Source, name: str, keys: Any) -> tuple[Entry | None, list[Problem]]:
    if not _NAME.fullmatch(name):
        sentence = "a policy's name is of small letters, digits and hyphens, begins with a letter, and has at most 63"
        return None, [problem(source, sentence, name)]
    if not isinstance(keys, dict):
        return None, [problem(source, f"a policy is a table: begin it with [{name}]", name)]
    try:
        entry = Entry.model_validate(keys)
    except ValidationError as error:
        return None, [problem(source, sentence, name, *at) for at, sentence in _sentences(error.errors())]
    if entry.then.redact and not redaction.ends(entry):
        sentence = (
            "a row that was redacted would be chosen again for ever: have it make a condition of `where` false, or set "
            "the age to { now = true }"
        )
        return None, [problem(source, sentence, name, "then", "redact")]
    return entry, []


def _sentences(errors: Iterable[Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    for error in errors:
        at = tuple(str(key) for key in error["loc"] if key != "[key]")
        if error["type"] == "extra_forbidden":
            yield at, "there is no such key"
        elif error["type"] == "missing":
            yield at, "it is missing"
        else:
            said = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "it should")
            yield at, said[:1].lower() + said[1:]
