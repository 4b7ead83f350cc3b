"""The alert rules and the dashboard: they parse, fire where they should, and name metrics that there are.

What Prometheus makes of the rules is asked of its own `promtool`; without it those tests are skipped, and with
REQUIRE_PROMTOOL set that fails. Seen to fail, alert by alert: every rule renamed, each `for` moved by a minute, and
each threshold by a minute or by one, both ways. Further: a metric and a label misspelt, in the rules and on the
dashboard; a metric and a label that only the product has; a heading misspelt; two panels with one number.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from app.ops import metric_names

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
RULES, RULE_TESTS, DASHBOARD = OPS / "alerts.yml", OPS / "alerts_test.yml", OPS / "grafana.json"
RUNBOOK = ROOT / "docs" / "operations.md"
METRIC = re.compile(r"\bretention_[a-z_]+")
OF_A_HISTOGRAM = re.compile(r"_(bucket|sum|count)$")
METRICS = {metric.name: set(metric.labels) for metric in metric_names.ALL}
LABELS = re.compile(r"\bby \(([a-z_, ]+)\)")


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None and os.environ.get("REQUIRE_PROMTOOL"):
        pytest.fail("promtool is not installed, and REQUIRE_PROMTOOL says that it must be")
    if found is None:
        pytest.skip("promtool is not installed: it comes with Prometheus (Debian's package is called that)")
    return found


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def rule_checks() -> list[dict]:
    return [check for test in yaml.safe_load(RULE_TESTS.read_text())["tests"] for check in test["alert_rule_test"]]


def expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [rule["expr"] for rule in rules()] + [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("arguments", [("check", "rules", RULES.name), ("test", "rules", RULE_TESTS.name)], ids=str)
def test_prometheus_takes_the_rules_and_they_fire_at_their_boundaries(arguments):
    done = subprocess.run([promtool(), *arguments], cwd=OPS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire_and_not_to_fire():
    fires = {check["alertname"] for check in rule_checks() if check["exp_alerts"]}
    keeps_quiet = {check["alertname"] for check in rule_checks() if not check["exp_alerts"]}
    assert fires == keeps_quiet == {rule["alert"] for rule in rules()}


def test_every_alert_leads_to_its_heading_in_the_runbook_and_each_such_heading_is_an_alert():
    headings = set(re.findall(r"^### (Retention[A-Za-z]+)$", RUNBOOK.read_text(), re.MULTILINE))
    assert headings == {rule["alert"] for rule in rules()}
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_alerts_and_dashboard_name_metrics_that_there_are():
    used = {OF_A_HISTOGRAM.sub("", name) for name in METRIC.findall(" ".join(expressions()))}
    assert used - set(METRICS) == set()


def test_alerts_and_dashboard_group_by_labels_that_the_metric_has():
    wrong = []
    for expression in expressions():
        of_metrics = set().union(
            *(METRICS[OF_A_HISTOGRAM.sub("", name)] for name in METRIC.findall(expression)), {"le"}
        )
        by = {label.strip() for labels in LABELS.findall(expression) for label in labels.split(",")}
        wrong += [(expression, label) for label in by - of_metrics]
    assert wrong == []


def test_every_metric_is_on_the_dashboard():
    shown = {OF_A_HISTOGRAM.sub("", name) for name in METRIC.findall(DASHBOARD.read_text())}
    assert shown == set(METRICS)


def test_the_dashboards_panels_have_numbers_of_their_own_and_do_not_overlap():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
