"""The hub reader on folders made here: `load_dataset` treats them as it treats a hub id."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from hyperlect.data.readers import Example, Source, read
from hyperlect.errors import Problem, UnreachableError

from ..conftest import problems

WORDS = {"words": "tokens", "labels": "ner_tags"}
TEXT = {"text": "text", "label": "label"}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    words = Dataset.from_dict(
        {"tokens": [["Nuuk", "!"], ["ok"]], "ner_tags": [[1, 0], [0]], "langs": [["kl"], ["kl"]]},
        features=Features(
            {
                "tokens": List(Value("string")),
                "ner_tags": List(ClassLabel(names=["O", "B-LOC"])),
                "langs": List(Value("string")),
            }
        ),
    )
    texts = Dataset.from_dict(
        {"text": ["a", "", "c"], "label": [1, 0, -1], "number": [7, 8, 9]},
        features=Features(
            {
                "text": Value("string"),
                "label": ClassLabel(names=["no", "yes"]),
                "number": Value("int64"),
            }
        ),
    )
    root = tmp_path / "data-set"
    for path, data in {
        "kal/train.parquet": words,
        "kal/test.parquet": words.select([1]),
        "topics/train.parquet": texts.select([0, 1]),
        "topics/test.parquet": texts,
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        data.to_parquet(str(root / path))
    (root / "README.md").write_text(
        "---\nconfigs:\n"
        "- config_name: kal\n  data_files:\n"
        "  - {split: train, path: kal/train.parquet}\n  - {split: test, path: kal/test.parquet}\n"
        "- config_name: topics\n  data_files:\n"
        "  - {split: train, path: topics/train.parquet}\n"
        "  - {split: test, path: topics/test.parquet}\n---\n"
    )
    return root


def failure(source: Source, word_level: bool) -> Problem:
    (problem,) = problems(source, word_level)
    assert problem.file == str(source)
    return problem


def test_words_and_class_names_of_a_configuration(folder: Path) -> None:
    source = Source("hub", str(folder), WORDS, config="kal", split="train")
    assert read(source, True) == [
        Example(("Nuuk", "!"), ("B-LOC", "O"), line=1),
        Example(("ok",), ("O",), line=2),
    ]


def test_texts_and_an_empty_one_that_nobody_can_fix(folder: Path) -> None:
    source = Source("hub", str(folder), TEXT, config="topics", split="train")
    assert read(source, False) == [
        Example(text="a", label="yes", line=1),
        Example(text="", label="no", line=2),
    ]


def test_numbers_that_are_no_classes_are_labels_too(folder: Path) -> None:
    fields = {"text": "text", "label": "number"}
    source = Source("hub", str(folder), fields, config="topics", split="train", limit=1)
    assert read(source, False) == [Example(text="a", label="7", line=1)]


def test_words_can_be_read_as_text(folder: Path) -> None:
    source = Source("hub", str(folder), {"text": "tokens"}, config="kal", split="train")
    assert [example.text for example in read(source, False)] == ["Nuuk !", "ok"]


def test_rows_without_a_label_are_left_out_and_counted(folder: Path) -> None:
    source = Source("hub", str(folder), TEXT, config="topics", split="test")
    with pytest.warns(UserWarning, match="topics/test: 1 row without a label left out; 2 examples"):
        assert [example.line for example in read(source, False)] == [1, 2]


def test_sentences_with_a_word_without_a_label_are_left_out(tmp_path: Path) -> None:
    rows = {"tokens": [["a", "b"], ["c"], ["d"], ["e"]], "ner_tags": [[0, -1], [-1], [0], None]}
    tags = List(ClassLabel(names=["O"]))
    features = Features({"tokens": List(Value("string")), "ner_tags": tags})
    (tmp_path / "some").mkdir()
    dataset = Dataset.from_dict(rows, features=features)
    dataset.to_parquet(str(tmp_path / "some" / "train.parquet"))
    source = Source("hub", str(tmp_path / "some"), WORDS, split="train", limit=1)
    with pytest.warns(UserWarning, match="2 rows without a label"):  # not looked at after the limit
        assert read(source, True) == [Example(("d",), ("O",), line=3)]


def saved(rows: dict[str, list[object]], features: dict[str, object], folder: Path) -> str:
    folder.mkdir()
    data = Dataset.from_dict(rows, features=Features(features))
    data.to_parquet(str(folder / "train.parquet"))
    return str(folder)


@pytest.mark.parametrize("tags", [Value("int64"), ClassLabel(names=["0", "1"])])
def test_minus_one_and_minus_hundred_stand_for_no_label(tmp_path: Path, tags: object) -> None:
    features = {"tokens": List(Value("string")), "ner_tags": List(tags)}
    rows: dict[str, list[object]] = {
        "tokens": [["a", "b"], ["c", "d"], ["e", "f"], ["g"]],
        "ner_tags": [[0, 1], [-100, 1], [1, -1], [-1]],
    }
    path = saved(rows, features, tmp_path / "some")
    with pytest.warns(UserWarning, match="3 rows without a label"):
        (example,) = read(Source("hub", path, WORDS, split="train"), True)
    assert example.labels == ("0", "1")
    with pytest.warns(UserWarning, match="1 row without a label"):
        ignored = read(Source("hub", path, WORDS, split="train", unlabelled="ignore"), True)
    assert [example.labels for example in ignored] == [("0", "1"), ("", "1"), ("1", "")]


def test_whole_fractions_are_whole_numbers(tmp_path: Path) -> None:
    features = {"text": Value("string"), "label": Value("float64")}
    rows: dict[str, list[object]] = {"text": list("abcd"), "label": [1.0, 0.0, -1.0, None]}
    path = saved(rows, features, tmp_path / "some")
    with pytest.warns(UserWarning, match="2 rows without a label"):
        examples = read(Source("hub", path, TEXT, split="train"), False)
    assert [example.label for example in examples] == ["1", "0"]
    rows["label"][1] = 0.5
    half = saved(rows, features, tmp_path / "half")
    assert failure(Source("hub", half, TEXT, split="train"), False).line == 2


def test_a_split_without_any_label_is_refused(folder: Path, tmp_path: Path) -> None:
    withheld = Dataset.from_parquet(str(folder / "topics" / "test.parquet")).select([2])
    (tmp_path / "withheld").mkdir()
    withheld.to_parquet(str(tmp_path / "withheld" / "test.parquet"))
    problem = failure(Source("hub", str(tmp_path / "withheld"), TEXT, split="test"), False)
    assert "1 row" in problem.message


def test_a_missing_column_lists_those_present(folder: Path) -> None:
    fields = {"words": "token", "labels": "ner_tags"}
    problem = failure(Source("hub", str(folder), fields, config="kal", split="train"), True)
    assert '"token"' in problem.message
    assert 'Did you mean "tokens"?' in problem.message
    assert "tokens, ner_tags, langs" in problem.message


def test_a_missing_split_lists_the_splits(folder: Path) -> None:
    assert "train, test" in failure(Source("hub", str(folder), WORDS, config="kal"), True).message


@pytest.mark.parametrize(("config", "split", "wrong"), [("kal", "no", "no"), ("ka", "train", "ka")])
def test_unknown_split_and_configuration_are_named(
    folder: Path, config: str, split: str, wrong: str
) -> None:
    source = Source("hub", str(folder), WORDS, config=config, split=split)
    assert wrong in failure(source, True).message


def test_config_revision_and_split_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def load_dataset(path: str, **options: object) -> Dataset:
        asked.update(options, path=path)
        return Dataset.from_dict({"text": ["a"], "label": ["x"]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = Source("hub", "some/one", TEXT, config="fo", revision="v2", split="test")
    assert read(source, False) == [Example(text="a", label="x", line=1)]
    assert asked == {"path": "some/one", "name": "fo", "revision": "v2", "split": "test"}


def test_a_data_set_that_has_moved_is_said_to_have(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(path: str, **options: object) -> Dataset:
        raise RuntimeError("Dataset scripts are no longer supported")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    problem = failure(Source("hub", "wikiann", WORDS, config="fo", split="test"), True)
    assert "Dataset scripts are no longer supported" in problem.message
    assert '"unimelb-nlp/wikiann"' in problem.message


def test_a_hub_that_is_not_reached_is_no_problem_of_the_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*_: object, **__: object) -> Dataset:
        raise ConnectionError("Couldn't reach 'a/b' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(UnreachableError, match=r"a/b/c/d.*Couldn't reach"):
        read(Source("hub", "a/b", WORDS, config="c", split="d"), word_level=True)


@pytest.mark.parametrize("disabled", [True, False])
def test_no_progress_bars_and_their_setting_stays(
    folder: Path, capfd: pytest.CaptureFixture[str], disabled: bool
) -> None:
    before = datasets.are_progress_bars_disabled()
    change = {True: datasets.disable_progress_bars, False: datasets.enable_progress_bars}
    try:
        change[disabled]()
        read(Source("hub", str(folder), WORDS, config="kal", split="test"), True)
        assert datasets.are_progress_bars_disabled() is disabled
    finally:
        change[before]()
    assert "%|" not in capfd.readouterr().err


def test_trees_leave_out_the_multiword_tokens(tmp_path: Path) -> None:
    trees = Dataset.from_dict(
        {
            "tokens": [["Vamos", "ao", "a", "o", "mar"], ["Ja"]],
            "head": [["0", "None", "4", "4", "1"], ["0"]],
            "deprel": [["root", "_", "case", "det", "obl"], ["root"]],
        }
    )
    (tmp_path / "trees").mkdir()
    trees.to_parquet(str(tmp_path / "trees" / "train.parquet"))
    fields = {"words": "tokens", "heads": "head", "labels": "deprel"}
    first, second = read(Source("hub", str(tmp_path / "trees"), fields, split="train"), True)
    assert first == Example(
        ("Vamos", "a", "o", "mar"), ("root", "case", "det", "obl"), (0, 4, 4, 1), line=1
    )
    assert second.heads == (0,)


@pytest.fixture
def treebank(tmp_path: Path) -> str:
    """A sentence with the multiword token that stands beside its words."""
    rows = {
        "tokens": [["Vamos", "ao", "a", "o", "mar"]],
        "upos": [[0, 1, 2, 3, 4]],
        "xpos": [["v", "_", "p", "d", "n"]],
        "deprel": [["root", "_", "case", "det", "obl"]],
    }
    tags = ClassLabel(names=["VERB", "_", "ADP", "DET", "NOUN"])
    features = {column: List(tags if column == "upos" else Value("string")) for column in rows}
    (tmp_path / "trees").mkdir()
    dataset = Dataset.from_dict(rows, features=Features(features))
    dataset.to_parquet(str(tmp_path / "trees" / "train.parquet"))
    return str(tmp_path / "trees")


@pytest.mark.parametrize(
    ("column", "labels"),
    [
        ("upos", ("VERB", "ADP", "DET", "NOUN")),
        ("xpos", ("v", "p", "d", "n")),
        ("deprel", ("root", "case", "det", "obl")),
    ],
)
def test_whatever_the_labels_the_multiword_tokens_are_left_out(
    treebank: str, column: str, labels: tuple[str, ...]
) -> None:
    fields = {"words": "tokens", "labels": column}
    assert read(Source("hub", treebank, fields, split="train"), True) == [
        Example(("Vamos", "a", "o", "mar"), labels, line=1)
    ]


def test_words_without_labels_leave_out_the_multiword_tokens(treebank: str) -> None:
    source = Source("hub", treebank, {"words": "tokens"}, split="train")
    assert read(source, True)[0].words == ("Vamos", "a", "o", "mar")


def test_heads_may_be_numbers(tmp_path: Path) -> None:
    features = Features(
        {
            "tokens": List(Value("string")),
            "head": List(Value("uint16")),
            "deprel": List(Value("string")),
        }
    )
    rows = {"tokens": [["ja", "da"]], "head": [[0, 1]], "deprel": [["root", "obj"]]}
    (tmp_path / "trees").mkdir()
    trees = Dataset.from_dict(rows, features=features)
    trees.to_parquet(str(tmp_path / "trees" / "train.parquet"))
    fields = {"words": "tokens", "heads": "head", "labels": "deprel"}
    [example] = read(Source("hub", str(tmp_path / "trees"), fields, split="train"), True)
    assert example.heads == (0, 1)


def test_code_and_pickles_in_a_folder_are_not_run(tmp_path: Path) -> None:
    folder, mark = tmp_path / "trap", tmp_path / "run"
    folder.mkdir()
    code = f"open({str(mark)!r}, 'w').close()\n"
    (folder / "trap.py").write_text(code)
    assert problems(Source("hub", str(folder), TEXT, split="train"))
    (folder / "train.pkl").write_bytes(b"cbuiltins\nexec\n(V" + code.encode() + b"tR.")
    assert problems(Source("hub", str(folder), TEXT, split="train"))
    assert not mark.exists()
