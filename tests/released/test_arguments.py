from __future__ import annotations

import json
from pathlib import Path

import pytest

from hyperlect.errors import Problem, RunError
from hyperlect.released.names import language_code, read_arguments

NEEDED = ("tasks=ner mlm", "languages=[en, no]", "train_task_language_pairs=ner#en mlm#no")


def faults(*changes: str, path: Path | None = None, hint: str = "") -> dict[str, Problem]:
    """The problems of arguments, by their keys."""
    with pytest.raises(RunError) as error:
        read_arguments(path, changes, hint)
    assert hint in str(error.value)
    assert len({problem.key for problem in error.value.problems}) == len(error.value.problems)
    return {problem.key.removeprefix("--set "): problem for problem in error.value.problems}


def test_defaults_are_those_of_the_released_command_line() -> None:
    arguments = read_arguments(None, NEEDED)
    assert arguments.tasks == ("ner", "mlm")
    assert arguments.languages == ("en", "no")  # Norwegian, and no truth value
    assert arguments.train_task_language_pairs == ("ner#en", "mlm#no")
    assert (arguments.adapter_dim, arguments.projected_source_embedding_dim) == (256, 32)
    assert not arguments.condition_to_layer_id


def test_a_file_is_json_or_yaml_and_set_comes_after_it(tmp_path: Path) -> None:
    given = {"tasks": ["pos"], "languages": ["en"], "train_task_language_pairs": ["pos#en"]}
    extra = {"adapter_dim": 8, "max_train_samples": None, "seed": 3}
    (tmp_path / "a.json").write_text(json.dumps({**given, **extra}, indent=1))
    assert read_arguments(tmp_path / "a.json", ()).adapter_dim == 8
    assert read_arguments(tmp_path / "a.json", ["adapter_dim=9"]).adapter_dim == 9
    (tmp_path / "a.yaml").write_text(
        "tasks: [pos]\nlanguages: en tr\ntrain_task_language_pairs: pos#en pos#tr\n"
    )
    assert read_arguments(tmp_path / "a.yaml", ()).languages == ("en", "tr")


def test_every_fault_is_named_at_once() -> None:
    problems = faults(
        *("adaptor_dim=4", "no_hypernet=perhaps", "seeed=1", "foo=1", "adapter_dim=0"),
        *("tasks=ner pso", "languages=en anglais"),
        hint="Look there.",
    )
    hints = {
        "adaptor_dim": 'Did you mean "adapter_dim"?',
        "seeed": 'Did you mean "seed"?',
        "foo": "Known here: tasks, languages",
        "no_hypernet": '"perhaps"',
        "adapter_dim": "not 0",
        "train_task_language_pairs": "required",
        "tasks.1": 'Did you mean "pos"?',
        "languages.1": "language_codes.anglais=CODE",
    }
    assert problems.keys() == hints.keys()
    for key, hint in hints.items():
        assert hint in problems[key].message


def test_names_of_what_is_not_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "tasks: [ner]\nlanguages: [en]\ntrain_task_language_pairs: [ner#tr, ner]\n"
        "labels: {nre: [O]}\nlanguage_codes: {fo: fao}\n"
    )
    problems = faults(path=path)
    assert {(problem.file, problem.line, key) for key, problem in problems.items()} == {
        (str(path), 3, "train_task_language_pairs.0"),
        (str(path), 3, "train_task_language_pairs.1"),
        (str(path), 4, "labels.nre"),
        (str(path), 5, "language_codes.fo"),
    }
    assert 'Did you mean "ner"?' in problems["labels.nre"].message


def test_an_empty_list_is_a_fault() -> None:
    problems = faults("tasks=[]", "languages=en", "train_task_language_pairs=[]")
    assert problems.keys() == {"tasks", "train_task_language_pairs"}


def test_a_pickle_is_not_a_file_of_arguments(tmp_path: Path) -> None:
    (tmp_path / "hyperx_args.bin").write_bytes(b"\x80\x04\x95\xff\xfe")
    with pytest.raises(RunError, match=r"hyperx_args\.bin"):
        read_arguments(tmp_path / "hyperx_args.bin", ())
    (tmp_path / "list.json").write_text("[1, 2]")
    assert list(faults(path=tmp_path / "list.json")) == [""]


def test_two_names_of_one_language() -> None:
    given = (
        "tasks=ner",
        "languages=en simple be be-x-old als sq",
        "train_task_language_pairs=ner#en",
    )
    problems = faults(*given)
    assert problems.keys() == {"languages.1", "languages.3"}
    assert '"simple" is English (eng), as "en" is.' in problems["languages.1"].message
    assert '"be-x-old" is Belarusian (bel), as "be" is.' in problems["languages.3"].message
    own = ("language_codes.simple=qaa", "language_codes.be-x-old=qab")
    assert read_arguments(None, [*given, *own]).language_codes == {
        "simple": "qaa",
        "be-x-old": "qab",
    }


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("als", "gsw"),
        ("bat-smg", "sgs"),
        ("be-x-old", "bel"),
        ("bh", "bho"),
        ("eml", "egl"),
        ("fiu-vro", "vro"),
        ("map-bms", "jav"),
        ("simple", "eng"),
        ("zh-classical", "lzh"),
        ("zh-min-nan", "nan"),
        ("zh-yue", "yue"),
        ("cbk-zam", "cbk"),
        ("sq", "als"),
        ("fo", "fao"),
        ("no", "nor"),
    ],
)
def test_names_mean_what_they_do_in_wikiann(name: str, code: str) -> None:
    assert language_code(name, {}) == code


def test_a_given_code_comes_first() -> None:
    assert language_code("als", {"als": "sqi"}) == "als"
