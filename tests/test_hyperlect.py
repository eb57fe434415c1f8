"""The package's door."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hyperlect
from hyperlect.model import HyperX, HyperXConfig


def test_the_model_is_found_at_the_top() -> None:
    assert hyperlect.HyperX is HyperX
    assert hyperlect.HyperXConfig is HyperXConfig
    with pytest.raises(AttributeError, match="no attribute 'HyperY'"):
        _ = hyperlect.HyperY


def test_importing_the_package_waits_for_no_library() -> None:
    code = "import sys, hyperlect; print(hyperlect.__version__, 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == [hyperlect.__version__, "False"]
