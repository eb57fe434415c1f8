"""One tiny run that all tests of the command line share, and a way to call it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from hyperlect.cli.__main__ import main

from ..tiny import save_tiny

TAGGED = """# made up
Anna\tPROPN\tB-PER\tname
sees\tVERB\tO\tword
the\tDET\tO\tword
river\tNOUN\tO\tword

the\tDET\tO\tword
old\tADJ\tO\tword
dog\tNOUN\tO\tword
in\tADP\tO\tword
Oslo\tPROPN\tB-LOC\tname
.\tPUNCT\tO\tsign
"""
TREES = """# text = dont see Oslo
1-2\tdont\t_\t_\t_\t_\t_\t_\t_\t_
1\tdo\tdo\tAUX\t_\t_\t3\taux\t_\t_
2\tnot\tnot\tPART\t_\t_\t3\tadvmod\t_\t_
3\tsee\tsee\tVERB\t_\t_\t0\troot\t_\tGloss=see
3.1\tyou\t_\tPRON\t_\t_\t_\t_\t3:nsubj\t_
4\tOslo\tOslo\tPROPN\t_\t_\t3\tobj\t_\t_

1\tAnna\tAnna\tPROPN\t_\t_\t0\troot\t_\t_

"""
RECIPE = """format_version: 1
name: tiny
backbone: encoder
max_length: 64
hypernet: {bottleneck: 4, projection: 4, embedding: 8}
tasks:
  pos: {type: tagging, labels: upos}
  ner: {type: spans, labels: [LOC, PER]}
  topic: {type: classification}
  nli: {type: pairs}
  dep: {type: parsing}
  sort: {type: tagging}
data:
  - task: pos
    format: columns
    fields: {word: 1, label: 2}
    comment: "# "
    cells:
      eng: {train: a.tsv, dev: b.tsv, test: c.tsv}
      isl: {test: c.tsv}
  - task: ner
    format: columns
    fields: {word: 1, label: 3}
    comment: "# "
    cells:
      isl: {train: a.tsv, test: c.tsv}
      fao: {test: c.tsv}
  - task: topic
    format: tsv
    fields: {text: text, label: label}
    cells:
      eng: {train: topic.tsv}
  - task: nli
    format: tsv
    fields: {text: text, pair: pair, label: label}
    cells:
      isl: {train: nli.tsv}
  - task: dep
    format: conllu
    cells:
      eng: {train: trees.conllu}
  - task: sort
    format: columns
    fields: {word: 1, label: 4}
    comment: "# "
    cells:
      eng: {train: a.tsv}
training: {steps: 3, batch_size: 2, learning_rate: 1e-3, log_every: 1}
"""


class Result(NamedTuple):
    code: int
    out: str
    err: str


Call = Callable[..., Result]


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Call:
    """Call the command line as from a wide terminal, with what is to be read on stdin."""

    def run(*arguments: object, stdin: bytes | str = b"") -> Result:
        file = tmp_path.with_name(f"{tmp_path.name}.stdin")
        file.write_bytes(stdin.encode() if isinstance(stdin, str) else stdin)
        capsys.readouterr()
        with file.open(encoding="utf-8") as stream:
            monkeypatch.setattr("sys.stdin", stream)
            with pytest.raises(SystemExit) as leaving:
                main([str(argument) for argument in arguments])
        return Result(int(leaving.value.code or 0), *capsys.readouterr())

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("HYPERLECT_DEBUG", raising=False)
    return run


def write_project(folder: Path) -> Path:
    """Write encoder, data and recipe; returns the recipe's path."""
    save_tiny(folder / "encoder", "bert")
    one, two = TAGGED.removeprefix("# made up\n").split("\n\n")
    (folder / "a.tsv").write_text(TAGGED)
    (folder / "b.tsv").write_text(f"{two}\n".replace("dog", "cat"))
    (folder / "c.tsv").write_text(f"{one}\n\n{two}".replace("the", "a"))
    (folder / "topic.tsv").write_text("text\tlabel\nthe river\tnature\nOslo and Anna\tpeople\n")
    (folder / "trees.conllu").write_text(TREES)
    (folder / "nli.tsv").write_text("text\tpair\tlabel\nthe dog\ta dog\tyes\nthe dog\tnot\tno\n")
    (folder / "tiny.yaml").write_text(RECIPE)
    return folder / "tiny.yaml"


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and its data."""
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    return folder


@pytest.fixture(scope="session")
def trained(project: Path, session_cache: Path) -> Path:
    """A run folder; tests must not change it."""
    run = project / "runs" / "shared"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPERLECT_CACHE", str(session_cache))
        with pytest.raises(SystemExit) as leaving:
            main(["train", str(project / "tiny.yaml"), "--out", str(run), "--device", "cpu"])
    assert not leaving.value.code
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained run beside it, to change at will; its data lies where it was."""
    return Path(shutil.copytree(trained, trained.with_name(tmp_path.name)))
