"""Logs: one JSON object a line, whoever speaks, and never what an error was about to quote.

Seen to fail: times as Python writes them.
"""

import json
import os
import subprocess
import sys

from dev.product import ROOT
from tests.unit.test_celery_configuration import SETTINGS

# In a process of its own: it changes what the whole process logs.
SPEAK = """
import datetime, logging, warnings, structlog
from app import config, logs
logs.configure(config.load())
at = datetime.datetime(2026, 3, 1, 3, 0, tzinfo=datetime.UTC)
structlog.get_logger("ours").info("step", moved=3, at=at, night=at.date())
logging.getLogger("theirs").warning("a line\\nand another")
warnings.warn("of a library")
logging.getLogger("quiet").debug("not at this level")
"""


def test_every_line_is_a_json_object_with_who_when_and_which_process():
    ended = subprocess.run(
        [sys.executable, "-c", SPEAK],
        env={"PATH": os.environ["PATH"], **SETTINGS},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=ROOT,
    )
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [(event["logger"], event["level"]) for event in events] == [
        ("ours", "info"),
        ("theirs", "warning"),
        ("py.warnings", "warning"),
    ]
    assert (events[0]["event"], events[0]["moved"], events[1]["event"]) == ("step", 3, "a line\nand another")
    assert (events[0]["at"], events[0]["night"]) == ("2026-03-01T03:00:00+00:00", "2026-03-01")
    assert all(event["timestamp"].endswith("Z") and event["process"] > 0 for event in events)
    assert ended.stdout == "", "what a command prints may be read by a program"
