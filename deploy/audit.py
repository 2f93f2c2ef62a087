"""Looks for known vulnerabilities of what constraints.txt pins, and fails where they could not be looked for.

pip-audit alone is content with an index that knows nothing of vulnerabilities: it skips all packages, and finds none.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOUND, NOT_AUDITED = 1, 2
REPORT = Path(".build/audit.json")
REMEDY = (
    "Run it where pip-audit reaches its vulnerability service, or name another: "
    "make audit AUDIT_FLAGS='--vulnerability-service osv'"
)


def main(flags: Sequence[str]) -> int:
    """Audit, report, and return the exit status: 0, FOUND or NOT_AUDITED."""
    REPORT.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--disable-pip", "--require-hashes"]
    command += ["--requirement", "constraints.txt", "--format", "json", "--output", str(REPORT), *flags]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if not REPORT.exists():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        print(f"Nothing has been audited: pip-audit ended with: {last[:300]}\n{REMEDY}", file=sys.stderr)
        return NOT_AUDITED
    status, lines = verdict(json.loads(REPORT.read_text()))
    print("\n".join([*lines, f"All of it is in {REPORT}."]), file=sys.stderr if status else sys.stdout)
    return status


def verdict(report: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Return the exit status and what to say of a report of pip-audit's."""
    dependencies = report["dependencies"]
    skipped = [each["name"] for each in dependencies if "skip_reason" in each]
    found = [
        f"{each['name']} {each['version']}: {known['id']}, mended in {', '.join(known['fix_versions']) or 'no version'}"
        for each in dependencies
        for known in each.get("vulns", ())
    ]
    lines = list(found)
    if skipped or not dependencies:
        lines.append(
            f"{len(skipped)} of {len(dependencies)} packages have not been audited: the service does not know "
            f"{', '.join(skipped[:3]) or 'any'}{' and others' if len(skipped) > 3 else ''}. {REMEDY}"
        )
    if found:
        return FOUND, lines
    if lines:
        return NOT_AUDITED, lines
    return 0, [f"{len(dependencies)} packages, and no known vulnerability."]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
