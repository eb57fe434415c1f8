"""What is installed: locked versions, their licences, and known weaknesses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def pins(file: str) -> dict[str, str]:
    text = (ROOT / file).read_text(encoding="utf-8")
    entries = re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in entries}


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for lines in lists for line in lines]


def test_the_lock_has_the_versions_of_the_constraints_with_hashes() -> None:
    """But torch, which is installed before it. Otherwise: make lock."""
    locked = pins("requirements.lock")
    expected = pins("constraints.txt")
    del expected["torch"]
    assert locked == expected
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for entry in re.split(r"^(?=\S+==)", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in entry


def test_the_minimum_is_the_lower_bound_of_each_requirement() -> None:
    """But of torch. Where another package needs more, the bound says so."""
    minimum = pins("constraints-minimum.txt")
    assert minimum.pop("torch") == pins("constraints.txt")["torch"]
    for requirement in requirements():
        if requirement.name != "torch":
            (bound,) = (s for s in requirement.specifier if s.operator in (">=", "=="))
            version = minimum[canonicalize_name(requirement.name)]
            assert Version(version) == Version(bound.version), requirement.name


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        ({"name": "a", "version": "1", "vulns": []}, 0, ""),
        ({"name": "a", "skip_reason": "not found"}, 0, "WARNING: 1 of 1 packages"),
        (None, 0, "WARNING: nothing was audited: no network"),
        (
            {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]},
            1,
            "a 1: CVE-1, fixed in 2",
        ),
    ],
)
def test_the_audit_fails_on_a_weakness_and_warns_without_an_answer(
    tmp_path: Path, answer: dict[str, object] | None, code: int, text: str
) -> None:
    printed = json.dumps({"dependencies": [answer]}) if answer else ""
    lines = ["import sys", f"print({printed!r})", "print('no network', file=sys.stderr)"]
    (tmp_path / "pip_audit.py").write_text("\n".join(lines))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, ".ci/audit.py"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    assert text in done.stdout
    assert bool(done.stdout) == bool(text)
