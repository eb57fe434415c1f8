from __future__ import annotations

import json
from pathlib import Path

import pytest

from hyperlect.errors import RunError
from hyperlect.released.arguments import read_arguments

NEEDED = ("tasks=ner mlm", "languages=[en, no]", "train_task_language_pairs=ner#en mlm#no")


def faults(*changes: str, path: Path | None = None, hint: str = "") -> list[str]:
    with pytest.raises(RunError) as error:
        read_arguments(path, changes, hint)
    return str(error.value).splitlines()


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


def test_every_fault_is_told_at_once() -> None:
    found = faults(
        *("adaptor_dim=4", "no_hypernet=perhaps", "seeed=1", "foo=1", "adapter_dim=0"),
        *("tasks=ner pso", "languages=en anglais"),
        hint="Look there.",
    )
    text = "\n".join(found)
    assert found[0] == "The list of arguments has 8 faults:"
    assert 'adaptor_dim: there is no such key. Did you mean "adapter_dim"?' in text
    assert 'seeed: there is no such key. Did you mean "seed"?' in text
    assert "foo: there is no such key. Known here: tasks, languages" in text
    assert 'no_hypernet: must be true or false, not "perhaps"' in text
    assert "adapter_dim: must be at least 1, not 0" in text
    assert "train_task_language_pairs: is missing, and needed" in text
    assert 'the released code has no task "pso". Did you mean "pos"?' in text
    assert 'Unknown language "anglais"' in text
    assert "language_codes.anglais=CODE" in text
    assert found[-1] == "Look there."


def test_names_that_speak_of_others(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "tasks: [ner]\nlanguages: [en]\ntrain_task_language_pairs: [ner#tr, ner]\n"
        "labels: {nre: [O]}\nlanguage_codes: {fo: fao}\n"
    )
    text = "\n".join(faults(path=path))
    assert f"The file of arguments {path} has 4 faults:" in text
    assert 'line 3, train_task_language_pairs.0: "ner#tr" is no task#language' in text
    assert 'labels.nre: is not among those listed. Did you mean "ner"?' in text
    assert "language_codes.fo: is not among those listed." in text


def test_a_pickle_is_no_file_of_arguments(tmp_path: Path) -> None:
    (tmp_path / "hyperx_args.bin").write_bytes(b"\x80\x04\x95\xff\xfe")
    (tmp_path / "list.json").write_text("[1, 2]")
    assert "pickles, which can run code" in faults(path=tmp_path / "hyperx_args.bin")[0]
    assert "a block of key: value lines" in "\n".join(faults(path=tmp_path / "list.json"))


def test_two_names_of_one_language() -> None:
    given = (
        "tasks=ner",
        "languages=en simple be be-x-old als sq",
        "train_task_language_pairs=ner#en",
    )
    text = "\n".join(faults(*given))
    assert "has 2 faults" in text
    assert 'languages.1: "simple" is English (eng), as "en" is. Give one of them a code' in text
    assert 'languages.3: "be-x-old" is Belarusian (bel), as "be" is.' in text
    own = ("language_codes.simple=qaa", "language_codes.be-x-old=qab")
    assert read_arguments(None, [*given, *own]).language_codes == {
        "simple": "qaa",
        "be-x-old": "qab",
    }
