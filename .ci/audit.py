"""`make audit`: known vulnerabilities of everything in the lock files, asked of PyPI's vulnerability service.

Ends with 0 only when each locked package was looked up and has none. A service that can't be reached, or that does
not know a package, is said in a sentence and is no success: nothing found is not the same as nothing asked.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCKS = ("requirements.lock", "requirements-dev.lock")
VULNERABLE, NOT_AUDITED = 1, 2
NAMES_SHOWN = 5


def verdict(answer: str, said: str) -> tuple[int, list[str]]:
    """The exit status and what to print, from pip-audit's JSON and what it said besides."""
    try:
        packages: list[dict[str, Any]] = json.loads(answer)["dependencies"]
    except (ValueError, KeyError):
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        return NOT_AUDITED, [f"Nothing was audited: the vulnerability service can't be reached ({last[:200]})."]
    found = [
        f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in "
        f"{', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for package in packages
        for vulnerability in package.get("vulns", ())
    ]
    skipped = sorted(package["name"] for package in packages if "skip_reason" in package)
    if skipped and len(skipped) == len(packages):
        found.append("Nothing was audited: the vulnerability service answers for none of the packages.")
    elif skipped:
        some = ", ".join(skipped[:NAMES_SHOWN]) + (", …" if len(skipped) > NAMES_SHOWN else "")
        found.append(f"{len(skipped)} of {len(packages)} packages were not audited: {some}.")
    if any("vulns" in package and package["vulns"] for package in packages):
        return VULNERABLE, found
    if skipped or not packages:
        return NOT_AUDITED, found or ["Nothing was audited: the lock files name no package."]
    return 0, [f"{len(packages)} packages, no known vulnerability."]


def main() -> int:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--format", "json"]
    for lock in LOCKS:
        command += ["--requirement", str(root / lock)]
    asked = subprocess.run(  # noqa: S603 - our own lock files
        [*command, "--progress-spinner", "off"], capture_output=True, text=True, check=False
    )
    status, lines = verdict(asked.stdout, asked.stderr)
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
