from __future__ import annotations

import subprocess
import sys

import pytest

from hyperlect import languages
from hyperlect.errors import HyperlectError, UnknownNameError


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("fao", "fao"),
        ("fo", "fao"),
        ("FO", "fao"),
        (" fao ", "fao"),
        ("zh", "zho"),
        ("zh-Hant", "zho"),
        ("zh-yue", "yue"),
        ("cmn", "zho"),
        ("sw", "swh"),
        ("swa", "swh"),
        ("swc", "swc"),
        ("ar", "arb"),
        ("ary", "ary"),
        ("nb", "nob"),
        ("nn", "nno"),
        ("no", "nor"),
        ("no-nyn", "nno"),
        ("fa", "pes"),
        ("ku", "kmr"),
        ("et", "est"),
        ("eng_Latn", "eng"),
        ("pt-BR", "por"),
        ("ger", "deu"),
        ("iw", "heb"),
        ("tl", "tgl"),
        ("tgl", "tgl"),
        ("sh", "hbs"),
        ("kpv", "kpv"),
        ("qaf", "qaf"),
        ("qtz", "qtz"),
        ("Faroese", "fao"),
        ("norwegian bokmål", "nob"),
        ("Swahili", "swh"),
        ("Dari", "prs"),
        ("Pa-Hng", "pha"),
        ("Bo-Ung", "mux"),
        ("Kua-nsi", "ykn"),
        ("Wik-Epa", "wie"),
    ],
)
def test_resolve(written: str, code: str) -> None:
    assert languages.resolve(written) == code


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("bat-smg", "sgs"),
        ("bat_smg", "sgs"),
        ("fiu-vro", "vro"),
        ("Fiu-Vro", "vro"),
        ("be-x-old", "bel"),
        ("be-tarask", "bel"),
        ("bh", "bho"),
        ("eml", "egl"),
        ("map-bms", "jav"),
        ("nds-nl", "nds"),
        ("roa-rup", "rup"),
        ("roa-tara", "nap"),
        ("sh", "hbs"),
        ("simple", "eng"),
        ("sr-ec", "srp"),
        ("sr-el", "srp"),
        ("zh-classical", "lzh"),
        ("zh-min-nan", "nan"),
        ("zh-yue", "yue"),
        ("cbk-zam", "cbk"),
    ],
)
def test_codes_of_wikipedias_mean_their_language(written: str, code: str) -> None:
    assert languages.resolve(written) == languages.resolve(written, wikipedia=True) == code


@pytest.mark.parametrize(("written", "code"), [("als", "gsw"), ("nrm", "nrf")])
def test_codes_of_other_languages_are_wikipedias_only_where_that_is_known(
    written: str, code: str
) -> None:
    assert languages.resolve(written) == written
    assert languages.resolve(written, wikipedia=True) == code


@pytest.mark.parametrize("written", ["bat", "fiu", "nah", "bih", "map", "sgn", "Baltic languages"])
def test_groups_of_languages_are_refused(written: str) -> None:
    with pytest.raises(UnknownNameError, match="group of languages") as error:
        languages.resolve(written)
    assert f'"{written}"' in str(error.value)


def test_all_collections_of_the_registry_are_groups() -> None:
    from language_data.registry_parser import parse_registry

    groups = {
        entry["Subtag"] for entry in parse_registry() if entry.get("Scope") == "collection"
    } - {"bh"}
    for group in groups:
        with pytest.raises(UnknownNameError):
            languages.resolve(group)


@pytest.mark.parametrize(
    ("written", "base", "rest"),
    [("de-foobar", "de", "foobar"), ("zh-xyz", "zh", "xyz"), ("lt-smg", "lt", "smg")],
)
def test_parts_that_mean_nothing_are_named(written: str, base: str, rest: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        languages.resolve(written)
    assert f'"{rest}"' in str(error.value)
    assert f'"{base}"' in str(error.value)


@pytest.mark.parametrize(("written", "code"), [("en-x-own", "eng"), ("de-u-co-phonebk", "deu")])
def test_extensions_are_left_out_with_a_warning(written: str, code: str) -> None:
    languages.resolve.cache_clear()
    with pytest.warns(UserWarning, match=written):
        assert languages.resolve(written) == code


def test_every_result_of_the_table_resolves_to_itself() -> None:
    tables = (languages._ONE_LANGUAGE, languages._WIKIPEDIAS, languages._ONLY_WIKIPEDIAS)
    codes = {code for table in tables for code in table.values()} | {*languages._KEPT_APART}
    for code in codes:
        assert languages.resolve(code) == code


@pytest.mark.parametrize("code", languages._KEPT_APART)
def test_the_names_of_languages_kept_apart_resolve_to_them(code: str) -> None:
    assert languages.resolve(languages.name(code)) == code


@pytest.mark.parametrize("written", ["", "xyz", "und", "mul", "zxx", "zz-ZZ", "x-own", "en-", "a"])
def test_what_is_no_language_is_refused(written: str) -> None:
    with pytest.raises(UnknownNameError, match="ISO 639-3") as caught:
        languages.resolve(written)
    assert f'"{written}"' in str(caught.value)
    assert isinstance(caught.value, HyperlectError)


@pytest.mark.parametrize(
    ("written", "meant"), [("Feroese", '"Faroese" (fao)'), ("Swahilli", '"Swahili" (swh)')]
)
def test_a_misspelt_name_gets_the_nearest(written: str, meant: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        languages.resolve(written)
    assert f"Did you mean {meant}?" in str(caught.value)


def test_a_name_with_more_behind_it_is_not_taken_for_the_name() -> None:
    with pytest.raises(UnknownNameError):
        languages.resolve("Frenchified English")


def test_a_name_that_several_languages_share_is_refused() -> None:
    with pytest.raises(UnknownNameError):
        languages.resolve("Sorbian")


@pytest.mark.parametrize(
    ("code", "english"),
    [
        ("fao", "Faroese"),
        ("swh", "Swahili"),
        ("arb", "Standard Arabic"),
        ("nob", "Norwegian Bokmål"),
        ("tgl", "Tagalog"),
        ("hbs", "Serbo-Croatian"),
        ("qaf", "qaf"),
        ("xyz", "xyz"),
        ("not a code", "not a code"),
    ],
)
def test_name(code: str, english: str) -> None:
    assert languages.name(code) == english


def test_importing_the_module_loads_no_tables() -> None:
    probe = (
        "import sys, hyperlect.languages; "
        "print([m for m in sys.modules if m.startswith(('langcodes', 'language_data'))])"
    )
    result = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("code", "autonym", "right_to_left"),
    [
        ("isl", "íslenska", False),
        ("heb", "עברית", True),
        ("arb", "العربية", True),
        ("div", "Divehi", True),
        ("zho", "中文", False),
        ("qaf", "qaf", False),
    ],
)
def test_names_in_the_language_itself_and_their_direction(
    code: str, autonym: str, right_to_left: bool
) -> None:
    assert languages.autonym(code) == autonym
    assert languages.is_right_to_left(code) == right_to_left


def test_common_languages_are_codes_as_they_are_used_inside() -> None:
    codes = languages.common()
    assert len(codes) > 500
    assert all(languages.resolve(code) == code for code in codes)


@pytest.mark.parametrize(
    ("code", "public"),
    [
        *(("isl", "is"), ("ind", "id"), ("heb", "he"), ("arb", "ar"), ("zho", "zh"), ("tgl", "tl")),
        *(("quy", "quy"), ("bho", "bho"), ("hbs", "hbs"), ("qaf", None)),
    ],
)
def test_the_public_code_is_the_shortest(code: str, public: str | None) -> None:
    assert languages.public_code(code) == public


def test_the_lists_of_pretraining_languages_are_codes_of_ours() -> None:
    lists = {key: languages.languages_in([key]) for key in ("xlm-r", "mbert")}
    for codes in lists.values():
        assert {languages.resolve(code) for code in codes} == codes
    # XLM-R counts two scripts of Chinese and Burmese and five transcriptions; here are also hbs,
    # nob, nno and tgl. mBERT counts two scripts of Chinese; here is also nor.
    assert {key: len(codes) for key, codes in lists.items()} == {"xlm-r": 97, "mbert": 104}
    assert {"zho", "nob", "tgl", "san"} <= lists["xlm-r"]
    assert {"yor", "bar", "tgk"} <= lists["mbert"] - lists["xlm-r"]
    assert not {"fao", "mlt", "zul"} & (lists["xlm-r"] | lists["mbert"])


def test_a_known_encoder_is_found_by_its_name() -> None:
    xlm_r, mbert = (languages.languages_in([key]) for key in ("xlm-r", "mbert"))
    for encoder in ("builtin:e5-small", "FacebookAI/xlm-roberta-base", "/x/xlm-roberta-large/"):
        assert languages.encoder_languages(encoder) == xlm_r
    assert languages.encoder_languages("bert-base-multilingual-cased") == mbert
    for encoder in ("bert-base-cased", "intfloat/e5-small", "Davlan/afro-xlmr-base", "backbone"):
        assert languages.encoder_languages(encoder) is None


def test_lists_and_languages_are_joined() -> None:
    assert languages.languages_in(["xlm-r", "fo"]) == languages.languages_in(["xlm-r"]) | {"fao"}
    with pytest.raises(UnknownNameError, match='Did you mean "xlm-r"'):
        languages.languages_in(["xlmr"])
