"""Any bytes are read, and come back when they are written, or are refused with file and line."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperlect.data.readers import Source, read
from hyperlect.errors import DataError, Problems

from .anything import RECIPE, SEEDS, TARGETS, assert_holds

pytestmark = pytest.mark.filterwarnings("ignore")

DIGITS = "9" * 5000
"""More than Python turns into a number."""
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(9 * [f'*{before}'])}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""Values that are 9^9 when they are written out."""

ONCE_WRONG: list[tuple[str, str | bytes]] = [
    ("conllu", f"@{DIGITS}" + "\t_" * 9),
    ("conllu", f"@1-{DIGITS}" + "\t_" * 9),
    ("conllu", f"A1\ta\t_\tX\t_\t_\t{DIGITS}\troot\t_\t_"),
    ("conllu", "@1\ta" + "\t_" * 8 + "\n٢\tb" + "\t_" * 8),
    ("tables", '\x0a{"\\ud800": 1}'),
    ("tables", b"\x03\r\0a"),
    ("tables", b"\x03\ra\n\0"),
    ("recipe", BOMB),
    ("recipe", f"a: {'[' * 20_000}"),
    ("recipe", f"a: {'[' * 200}{']' * 200}"),
    ("recipe", f'description: "{"${" * 50_000}"'),
    ("recipe", f'description: "{"${a:-" * 20_000}"'),
    ("recipe", f"{RECIPE}max_length: {DIGITS}"),
    ("recipe", RECIPE.replace("[A, B]", f"[A, {DIGITS}]")),
    ("recipe", RECIPE.replace("train: a", 'train: "a\\0b"')),
    ("recipe", f'{RECIPE}folder: "a\\0"'),
    ("recipe", f'{RECIPE}"\\ud800": 1'),
    ("recipe", f'{RECIPE}"[key]": 1'),
    ("recipe", f"{RECIPE}folder: ~nobody-of-this-name/x"),
    ("recipe", f"=training.steps={DIGITS}"),
    ("recipe", "=data.²=1"),
    ("recipe", "=data.0.cells.m\0anya={train: x}"),
    ("requests", '{"items": [{"text": "a", "task": "pos", "language": "m\\u0000anya"}]}'),
    ("windows", b"\4\4" + "\U0001f1e6".encode() * 50_000),
]
"""What the targets did not hold for, or took minutes for, before it was put right."""


@pytest.mark.parametrize(("target", "content"), ONCE_WRONG)
def test_what_was_wrong_once(target: str, content: str | bytes) -> None:
    assert_holds(target, content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize("target", TARGETS)
def test_sound_inputs_are_not_refused(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def raised(*_: Any) -> None:
        raise AssertionError("refused")

    monkeypatch.setattr(f"{TARGETS[target].__module__}.check_error", raised)
    for seed in SEEDS[target]:
        if seed != b"=name=[a]":
            assert_holds(target, seed)


TOKENS = [
    *(b"\n", b"\r", b"\t", b" ", b",", b'"', b"#", b"_", b"\0", b"\\", b":", b"-", b"[", b"{"),
    *(b"}", b"]", b"&a ", b"*a", b"<<: ", b"${", b"}", b"- ", b"? ", b"!!int ", b"null", b"true"),
    *(b"0", b"1", b"-1", b"1e999", b"\xff", b"\xed\xa0\x80", b"\x1f\x8b", b"\xef\xbb\xbf"),
    *("\u2028\x85\u200d\u0301猫\U0001f1e6".encode(), b"\\ud800", b"-DOCSTART-", b"<mask>", b"1-2"),
]


@st.composite
def changed(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A sound input with some places cut out, repeated or filled with something else."""
    content = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(content)))
        end = min(len(content), begin + draw(st.integers(0, 12)))
        middle = draw(st.sampled_from(TOKENS) | st.binary(max_size=4) | st.just(content[begin:end]))
        repeated = middle * draw(st.sampled_from([1, 1, 2, 50]))
        content = content[:begin] + repeated + content[end:]
    return content


@pytest.mark.parametrize("target", TARGETS)
def test_any_bytes(target: str) -> None:
    if target == "requests":
        pytest.importorskip("fastapi")

    @given(st.binary(max_size=100) | changed(SEEDS[target]))
    @settings(
        max_examples=200,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def holds(content: bytes) -> None:
        assert_holds(target, content)

    holds()


def test_a_gzip_file_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(2**20)) * 200)
    tracemalloc.start()
    with pytest.raises(DataError) as error:
        read(Source("text", str(path)), False)
    assert error.value.problems[0].file == str(path)
    assert tracemalloc.get_traced_memory()[1] < 2**27
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("form", "fields", "line"),
    [
        ("text", {}, b"a\n"),
        ("columns", {}, b"a O\n\n"),
        ("jsonl", {"text": "t"}, b'{"t": "a"}\n'),
        ("text", {}, b"\xff\n"),
    ],
)
def test_memory_stays_below_ten_times_the_file(
    form: str, fields: dict[str, str], line: bytes, tmp_path: Path
) -> None:
    """Counted by tracemalloc, which does not see Arrow: that has about what the file has."""
    from hyperlect.data.corpus import read_corpus

    path = tmp_path / "data"
    path.write_bytes(line * 1000)
    source = Source(form, str(path), fields)
    for count in (1000, 30_000):  # what is imported at the first call does not count
        path.write_bytes(line * count)
        tracemalloc.start()
        if line == b"\xff\n":
            with pytest.raises(DataError, match=f"{count - 20:,} more"):
                read_corpus([source], False, tmp_path / "cache")
        else:
            read_corpus([source], form == "columns", tmp_path / "cache")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 10 * path.stat().st_size + 5_000_000


def test_problems_beyond_the_kept_ones_are_counted() -> None:
    problems = Problems("a", kept=3)
    for line in range(30):
        problems.add("wrong", line)
    problems.add("wrong", 0)
    assert len(problems.items) == 3
    assert problems.text("Faults:").endswith("… and 27 more")
