"""Features from typology: the layout of URIEL's files, and tables of the user's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyperlect.data import typology
from hyperlect.data.typology import Typology
from hyperlect.errors import DataError, UnknownNameError

CODES = ("cmn", "dan", "deu", "agp", "swe", "tur")
NAMES = ("S_SVO", "S_SOV", "P_TONE", "INV_R", "INV_Q")


def write_uriel(folder: Path, script: bool = False, predictions: bool = True) -> None:
    """Write files in the layout of lang2vec or urielplus, with other numbers and few languages."""
    folder.mkdir(parents=True)
    codes, missing = np.array(CODES), -1.0
    observed = np.full((6, 5, 2), missing, dtype=np.float32)
    observed[1:3, 0] = [[1, 1], [1, 0]]  # two sources: they agree on Danish and not on German
    observed[4, :, 0] = [1, 0, 0, 1, 0]
    predicted = np.zeros((6, 5, 1), dtype=np.float32)
    predicted[5] = 1
    backward = np.arange(6)[::-1]
    family = np.array([[1, 0], [0, 1], [0, 1], [0, 0], [0, 1], [0, 0]], dtype=np.float32)
    places = np.linspace(0.25, 0.75, 18).reshape(6, 3).astype(np.float32)

    def save(name: str, langs: Any, feats: tuple[str, ...], data: Any) -> None:
        names = np.array(feats)
        np.savez_compressed(folder / f"{name}.npz", langs=langs, feats=names, data=data)

    save("features", codes, NAMES, observed)
    save("family_features", codes[backward], ("F_A", "F_B"), family[backward][:, :, None])
    save("geocoord_features", codes, ("GC_1", "GC_2", "GC_3"), places[:, :, None])
    if predictions:
        save("feature_predictions", codes, NAMES, predicted)
    if script:
        alphabet = np.array([0, 1, 1, -1, 1, 1], dtype=np.float64)
        save("script_features", codes, ("SC_ALPHABET",), alphabet[:, None, None])


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages that cannot be imported, before all others."""
    monkeypatch.syspath_prepend(tmp_path)

    def installed_here(name: str) -> metadata.Distribution:
        for distribution in metadata.distributions(name=name, path=[str(tmp_path)]):
            return distribution
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", installed_here)
    typology._read_uriel.cache_clear()
    yield tmp_path
    typology._read_uriel.cache_clear()


def install(packages: Path, name: str, folder: str, **files: bool) -> None:
    write_uriel(packages / name / folder, **files)
    (packages / name / "__init__.py").write_text("raise ImportError('pkg_resources')\n")
    about = packages / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    contents = [file.relative_to(packages).as_posix() for file in (packages / name).rglob("*.*")]
    (about / "RECORD").write_text("".join(f"{file},,\n" for file in contents))
    importlib.invalidate_caches()


def test_lang2vec_is_read_without_importing_it(packages: Path) -> None:
    install(packages, "lang2vec", "data")
    table = Typology.read("uriel")
    assert table.columns == {
        "syntax": 2, "phonology": 1, "inventory": 2, "family": 2, "geography": 3,
    }  # fmt: skip
    assert table.licence.startswith("CC BY-SA 4.0")
    # Observed values where there are any (their mean over the sources), else predicted ones.
    assert table.vector("dan")[:5].tolist() == [1, 0, 0, 0, 0]
    assert table.vector("deu")[:5].tolist() == [0.5, 0, 0, 0, 0]
    assert table.vector("tur")[:5].tolist() == [1] * 5
    # Families are in another order in their file.
    assert table.vector("swe")[5:7].tolist() == [0, 1]
    assert "lang2vec" not in sys.modules
    assert Typology.read("uriel") is table


def test_the_family_is_the_largest_group_of_relatives(packages: Path) -> None:
    install(packages, "lang2vec", "data")
    table = Typology.read("uriel", ["family"])
    assert table.families(["zho", "dan", "swe", "tur", "fao"]) == {
        "zho": "A", "dan": "B", "swe": "B",
    }  # fmt: skip
    groups = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 0]])  # C within B
    names = ("F_A", "F_B", "F_C")
    nested = Typology("x", ("dan", "swe", "tur"), {"family": names}, {"family": groups})
    assert nested.families(["swe"]) == {"swe": "B"}
    alone = Typology(
        "x", ("nob", "nor"), {"family": names}, {"family": groups[[0, 1]] * [[0], [1]]}
    )
    assert alone.families(["nob", "nno"]) == {"nob": "B", "nno": "B"}  # as their macro-language


def test_urielplus_alone_has_gaps_and_scripts(packages: Path) -> None:
    install(packages, "urielplus", "database/original_uriel", script=True, predictions=False)
    table = Typology.read("uriel")
    assert table.columns["script"] == 1
    assert table.vector("tur")[:5].isnan().all()
    assert table.vector("agp")[-1:].isnan().all()
    assert table.vector("swe")[:5].tolist() == [1, 0, 0, 1, 0]


def test_both_packages_together(packages: Path) -> None:
    install(packages, "lang2vec", "data")
    install(packages, "urielplus", "database/original_uriel", script=True, predictions=False)
    assert Typology.read("uriel").columns["script"] == 1
    assert not Typology.read("uriel").vector("tur").isnan().any()
    fewer = Typology.read("uriel", ("syntax", "family"))
    assert list(fewer.columns) == ["syntax", "family"]
    assert fewer.digest != Typology.read("uriel").digest


def test_without_a_package(packages: Path) -> None:
    with pytest.raises(DataError, match=r"\[typology\]"):
        Typology.read("uriel")


def test_other_codes_of_the_same_language(packages: Path) -> None:
    install(packages, "lang2vec", "data")
    table = Typology.read("uriel")
    assert torch.equal(table.vector("zh"), table.vector("cmn"))  # which resolve to zho
    assert torch.equal(table.vector("apf"), table.vector("agp"))  # which was retired for apf
    assert "zho" in table
    assert "isl" not in table


def test_a_language_that_the_table_lacks(packages: Path) -> None:
    install(packages, "lang2vec", "data")
    with pytest.raises(UnknownNameError, match='"dan"'):
        Typology.read("uriel").vector("dar")
    with pytest.raises(UnknownNameError, match="xqx"):
        Typology.read("uriel").vector("xqx")


def test_similar_languages_come_first(packages: Path) -> None:
    install(packages, "lang2vec", "data")
    table = Typology.read("uriel")
    similarity = table.similarity("dan", ["dan", "de", "tur"])
    assert similarity["dan"] == pytest.approx(1)
    assert similarity["de"] > similarity["tur"]
    assert [code for code, _ in table.nearest("dan", ["tur", "swe", "deu", "dan"], 2)] == [
        "deu", "swe",
    ]  # fmt: skip


def test_the_cosine_is_the_mean_over_groups() -> None:
    values = {"a": np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), "b": np.eye(3)}
    names = {"a": ("1", "2"), "b": ("3", "4", "5")}
    table = Typology("uriel", ("dan", "deu", "swe"), names, values)
    centred = [table - table.mean(axis=0) for table in values.values()]
    cosines = [
        (rows[0] @ rows[1]) / np.linalg.norm(rows[0]) / np.linalg.norm(rows[1]) for rows in centred
    ]
    assert table.similarity("dan", ["deu"])["deu"] == pytest.approx(np.mean(cosines))


def write(folder: Path, text: str) -> Path:
    path = folder / "languages.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_of_the_users_own(tmp_path: Path) -> None:
    path = write(tmp_path, "code,order,vowels\nda,1,20\n\nqaa,0,\nGerman,0.5,16\n")
    table = Typology.read(path)
    assert table.codes == ("dan", "qaa", "deu")
    assert table.columns == {"table": 2}
    assert table.vector("deu").tolist() == [0.5, 16]
    assert table.vector("qaa").isnan().tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("code,order\nda,many\n", 2, "order"),
        ("code,order\nda,1\nxqx,1\n", 3, ""),
        ("code,order\nda,1\ndan,1\n", 3, ""),
        ("code,order\nda,1,2\n", 2, ""),
        ("code,order,order\nda,1,2\n", 1, ""),
        ("code,order,\nda,1,2\n", 1, ""),
        ("code,order\nda,inf\n", 2, "order"),
        ("code,order\n", None, ""),
        ("code\nda\n", None, ""),
        ("", None, ""),
    ],
)
def test_a_faulty_table(tmp_path: Path, text: str, line: int | None, key: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DataError) as error:
        Typology.read(path)
    (problem, *_) = error.value.problems
    assert (problem.file, problem.line, problem.key) == (str(path), line, key)


def test_all_faults_of_a_table_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        Typology.read(write(tmp_path, "code,order\nxqx,1\nda,many\nde,1,1\n"))
    assert [problem.line for problem in error.value.problems] == [2, 3, 4]


def test_a_table_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv"):
        Typology.read(tmp_path / "gone.csv")
    (tmp_path / "languages.csv").write_bytes(b"code,a\nda,\xff\n")
    with pytest.raises(DataError, match="UTF-8"):
        Typology.read(tmp_path / "languages.csv")
