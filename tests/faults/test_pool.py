"""What the pool hears from its workers' logs.

Seen to fail: one event left out, the logs read from their start each time.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.faults.pool import Pool


def test_steps_that_were_undone_are_heard_once(tmp_path: Path):
    stack: Any = SimpleNamespace(directory=tmp_path)
    pool = Pool(stack, control=None, environment={})  # type: ignore[arg-type]
    first, second = (tmp_path / f"worker-{number}.log" for number in (1, 2))
    first.write_text('{"chain": 5, "event": "step"}\n{"chain": 5, "event": "lease-lost", "level": "warning"}\n')
    (tmp_path / "broker.log").write_text('{"event": "lease-lost"}\n')
    assert pool.steps_undone() == 1
    assert pool.steps_undone() == 0
    second.write_text('{"event": "step-failed", "attempts": 1}\n')
    with first.open("a") as log:
        log.write('{"event": "lease-lost"}\n')
    assert pool.steps_undone() == 2
