from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hyperlect.experiment import claim as module
from hyperlect.experiment.claim import STALE_AFTER, claim, claim_path, host, is_claimed


def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write(folder: Path, age: float = 0, **who: object) -> None:
    path = claim_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"host": host(), "pid": None, "worker": None, "token": "x"} | who))
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))


def test_one_at_a_time(tmp_path: Path) -> None:
    run = tmp_path / "mixed" / "seed-1"
    held = claim(run)
    assert held is not None
    assert is_claimed(run)
    assert claim(run) is None
    assert held.renew()
    held.release()
    assert not is_claimed(run)
    assert not list(run.parent.iterdir())
    assert claim(run) is not None


def test_of_many_processes_one_gets_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from hyperlect.experiment.claim import claim\n"
        "held = claim(Path(sys.argv[1])); print(held is not None, flush=True); sys.stdin.read()"
    )
    run = tmp_path / "run"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(run)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [process.stdout.readline().strip() for process in processes if process.stdout]
    for process in processes:
        process.communicate("")
    assert sorted(said) == ["False", "True"]


@pytest.mark.parametrize("of", ["pid", "worker"])
def test_the_claim_of_a_process_that_lives(tmp_path: Path, of: str) -> None:
    write(tmp_path / "run", 10 * STALE_AFTER, **{"pid": dead(), of: os.getpid()})
    assert is_claimed(tmp_path / "run")


def test_the_claim_of_processes_that_are_gone(tmp_path: Path) -> None:
    write(tmp_path / "run", pid=dead(), worker=dead())
    assert not is_claimed(tmp_path / "run")
    held = claim(tmp_path / "run")
    assert held is not None
    assert held.renew()
    assert claim(tmp_path / "run") is None


def test_the_claim_of_another_machine_counts_while_it_is_renewed(tmp_path: Path) -> None:
    write(tmp_path / "run", STALE_AFTER / 2, host="elsewhere", pid=os.getpid())
    assert claim(tmp_path / "run") is None
    write(tmp_path / "run", STALE_AFTER * 2, host="elsewhere", pid=os.getpid())
    assert not is_claimed(tmp_path / "run")
    assert claim(tmp_path / "run") is not None


def test_a_number_that_another_process_has_by_now(tmp_path: Path) -> None:
    if module._began(os.getpid()) is None:
        pytest.skip("this system does not tell when a process began")
    held = claim(tmp_path / "mine")
    assert held is not None
    assert is_claimed(tmp_path / "mine")
    write(tmp_path / "run", pid=os.getpid(), **{"pid began": "1"})
    assert not is_claimed(tmp_path / "run")
    assert claim(tmp_path / "run") is not None


def test_who_finds_a_claim_stale_too_late_does_not_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "run", pid=dead())
    original = module.is_stale
    first: list[module.Claim | None] = []

    def slow(path: Path) -> bool:
        """Another takes it between this look and what is done upon it."""
        stale = original(path)
        monkeypatch.setattr(module, "is_stale", original)
        first.append(claim(tmp_path / "run"))
        return stale

    monkeypatch.setattr(module, "is_stale", slow)
    assert claim(tmp_path / "run") is None
    assert first[0] is not None
    first[0].work(os.getpid())
    assert first[0].renew()


def test_a_claim_that_cannot_be_read_for_once_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = claim(tmp_path / "run")
    assert held is not None
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(OSError("stale")))
        assert held.renew()
    claim_path(tmp_path / "run").unlink()
    assert held.renew()
    assert claim(tmp_path / "run") is None


def test_a_claim_that_is_just_being_written_counts(tmp_path: Path) -> None:
    claim_path(tmp_path / "run").touch()
    assert claim(tmp_path / "run") is None


def test_what_another_has_taken_is_left_to_it(tmp_path: Path) -> None:
    held = claim(tmp_path / "run")
    assert held is not None
    write(tmp_path / "run", host="elsewhere", token="theirs")
    assert not held.renew()
    held.work(os.getpid())
    held.release()
    assert json.loads(claim_path(tmp_path / "run").read_text())["token"] == "theirs"
