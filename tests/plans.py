"""Plans of the statements that the product sends: caught on their way, and explained with the same values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, event


@dataclass(frozen=True)
class Plan:
    """A plan as it was executed."""

    nodes: list[dict[str, Any]]

    @property
    def indexes(self) -> set[str]:
        """The indexes that `notifications` was read through in order; how it was read otherwise."""
        read = [node for node in self.nodes if node.get("Relation Name") == "notifications"]
        return {node.get("Index Name", node["Node Type"]) for node in read}

    @property
    def sorts(self) -> list[str]:
        """Sorts that must read all their input before the first row comes out."""
        return [node["Node Type"] for node in self.nodes if node["Node Type"] == "Sort"]

    @property
    def buffers(self) -> int:
        return int(self.nodes[0]["Shared Hit Blocks"] + self.nodes[0]["Shared Read Blocks"])

    @property
    def rows(self) -> int:
        return int(self.nodes[0]["Actual Rows"])


def explained(engine: Engine, ask: Callable[[Connection], object], of: str = "notifications AS n") -> list[Plan]:
    """The plans of the statements on a table, `notifications`, that `ask` sends, executed once more as it sent them."""
    sent: list[tuple[str, Any]] = []
    with engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", lambda *call: sent.append((call[2], call[3])))
        ask(connection)
        connection.rollback()
    plans = []
    with engine.connect() as connection:
        for statement, values in sent:
            if of in statement:
                explain = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) " + statement
                plans.append(Plan(_nodes(connection.exec_driver_sql(explain, values).scalar_one()[0]["Plan"])))
            elif "set_config" in statement:
                connection.exec_driver_sql(statement, values or None)
        connection.rollback()
    return plans


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in _nodes(child))]
