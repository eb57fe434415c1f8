"""Ask for known weaknesses of the pinned versions: fail on one, warn where nobody answers.

pip-audit alone ends with success if the index does not know of weaknesses, as mirrors do not.
"""

import json
import subprocess
import sys

ASK = ["--requirement", "constraints.txt", "--no-deps", "--disable-pip", "--format", "json"]


def main() -> int:
    """Print what was found; return the exit code."""
    command = [sys.executable, "-m", "pip_audit", *ASK]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        print(f"WARNING: nothing was audited: {done.stderr.strip().splitlines()[-1]}")
        return 0
    audited = [package for package in packages if "vulns" in package]
    for package in audited:
        for weakness in package["vulns"]:
            fixed = ", ".join(weakness["fix_versions"]) or "no version"
            print(f"{package['name']} {package['version']}: {weakness['id']}, fixed in {fixed}")
    if len(audited) < len(packages):
        missing = len(packages) - len(audited)
        print(f"WARNING: {missing} of {len(packages)} packages were not audited: no data was found")
    return int(any(package["vulns"] for package in audited))


sys.exit(main())
