"""Ask which locked packages have known vulnerabilities: `python .ci/audit.py LOCK...`

pip-audit does the asking. It takes a registry without advisories for packages without any, and
ends with a traceback where there is no network; here either is one line, and no failure. Exits 1
for a package that has an advisory, and for a lock that pip-audit cannot read.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

_LIMIT_S = 600.0
# What a network, a proxy or the service says, by way of pip-audit or in a traceback's last lines.
_UNREACHED = re.compile(r"^requests\.|^pip_audit\._service|vulnerability feed|not redirecting")


def main(locks: list[str]) -> int:
    """Print what was found, and return the exit code."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    command += ["--disable-pip", "--require-hashes"]
    for lock in locks:
        command += ["--requirement", lock]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        print(f"audit: nothing was audited: no answer within {_LIMIT_S:.0f} s")
        return 0
    if done.stdout.strip():
        return _report(json.loads(done.stdout)["dependencies"])
    lines = done.stderr.strip().splitlines() or ["pip-audit said nothing"]
    if any(_UNREACHED.search(line) for line in lines[-3:]):
        print(f"audit: nothing was audited, its service cannot be reached: {lines[-1][:120]}")
        return 0
    print(f"audit: pip-audit failed: {lines[-1]}")
    return 1


def _report(packages: list[dict[str, Any]]) -> int:
    """Print a line for each advisory, and one for how many packages were looked up."""
    skipped = [one for one in packages if "skip_reason" in one]
    found = [(one, advisory) for one in packages for advisory in one.get("vulns", ())]
    for one, advisory in found:
        mended = ", ".join(advisory["fix_versions"]) or "no version yet"
        print(f"{one['name']} {one['version']}: {advisory['id']}, mended in {mended}")
    num_known = len(packages) - len(skipped)
    if not num_known:
        print(f"audit: nothing was audited: its service knows none of {len(packages)} packages")
        return 0
    rest = f", {len(skipped)} are unknown to its service" if skipped else ""
    print(f"audit: {len(found)} advisories for {num_known} packages{rest}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
