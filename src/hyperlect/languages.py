"""Language codes and names.

Inside hyperlect a language is an ISO 639-3 code (``fao``). People and data sets also write ISO
639-1 codes (``fo``), BCP 47 tags (``zh-Hant``, ``eng_Latn``) and English names (``Faroese``);
:func:`resolve` turns all of these into the code. The libraries ``langcodes`` and
``language_data`` hold the tables; they are imported at the first question, not before.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from .errors import UnknownNameError, listed, nearest

# Macro-languages of which data sets nearly always mean one member, and write now the one code,
# now the other; both must become one row of the grid. The pairs are CLDR's (languageAlias,
# reason "macrolanguage"), in the direction of the code that data sets use more often.
# Norwegian (nor) stays as it is, since data sets split it into nob and nno.
_ONE_LANGUAGE = {
    "ara": "arb", "aym": "ayr", "aze": "azj", "cmn": "zho", "ekk": "est", "fas": "pes",
    "kur": "kmr", "lav": "lvs", "mlg": "plt", "mon": "khk", "msa": "zsm", "nep": "npi",
    "ori": "ory", "sqi": "als", "swa": "swh", "uzb": "uzn", "yid": "ydd",
}  # fmt: skip

# Codes of Wikipedias, and so of WikiANN, that mean no other language as tags, or a group of them.
# What they mean is MediaWiki's word (includes/language/LanguageCode.php).
_WIKIPEDIAS = {
    "bat-smg": "sgs", "be-x-old": "bel", "bh": "bho", "cbk-zam": "cbk", "eml": "egl",
    "fiu-vro": "vro", "map-bms": "jav", "roa-rup": "rup", "roa-tara": "nap", "simple": "eng",
    "sr-el": "srp", "zh-classical": "lzh",
}  # fmt: skip

# Those that are codes of other languages by themselves (Tosk Albanian, Narom), and so stand for
# Alemannic and Norman only where all names are known to be Wikipedia's.
_ONLY_WIKIPEDIAS = {"als": "gsw", "nrm": "nrf"}

# Groups of languages: the collections of the IANA registry (ISO 639-5, and some of 639-2).
_GROUPS = (
    "aav afa alg alv apa aqa aql art ath auf aus awd azc bad bai bat ber bih bnt btk cai cau "
    "cba ccn ccs cdc cdd cel cmc cpe cpf cpp crp csu cus day dmn dra egx esx euq fiu fox gem "
    "gme gmq gmw grk him hmx hok hyx iir ijo inc ine ira iro itc jpx kar kdo khi kro map mkh "
    "mno mun myn nah nai ngf nic nub omq omv oto paa phi plf poz pqe pqw pra qwe roa sai sal "
    "sdv sem sgn sio sit sla smi son sqj ssa syd tai tbq trk tup tut tuw urj wak wen xgn xnd "
    "ypk zhx zle zls zlw znd"
)

# Languages that CLDR folds into a neighbour (Tagalog into Filipino) and that ISO 639-3 and
# treebanks keep apart, with the subtag under which the tables hold their names.
_KEPT_APART = {"cnr": "cnr", "hbs": "sh", "prs": "prs", "swc": "swc", "tgl": "tl", "xsj": "xsj"}

# The languages that encoders were pretrained on. XLM-R: Conneau et al. 2020, table 6, without
# transcriptions; its Norwegian and Filipino also under the codes of their parts. mBERT: the list in
# multilingual.md of its repository, for the cased model.
_PRETRAINED = {
    "xlm-r": (
        "afr als amh arb asm azj bel ben bos bre bul cat ces cym dan deu ell eng epo est eus fil "
        "fin fra fry gla gle glg guj hau hbs heb hin hrv hun hye ind isl ita jav jpn kan kat kaz "
        "khk khm kir kmr kor lao lat lit lvs mal mar mkd mya nld nno nob nor npi orm ory pan pes "
        "plt pol por pus ron rus san sin slk slv snd som spa srp sun swe swh tam tel tgl tha tur "
        "uig ukr urd uzn vie xho ydd zho zsm"
    ),
    "mbert": (
        "afr als arb arg ast azb azj bak bar bel ben bos bpy bre bul cat ceb ces che chv cym dan "
        "deu ell eng est eus fin fra fry gle glg guj hat hbs heb hin hrv hun hye ido ind isl ita "
        "jav jpn kan kat kaz khk kir kor lat lit lmo ltz lvs mal mar min mkd mya nds new nld nno "
        "nob nor npi oci pan pes plt pms pnb pol por ron rus scn sco slk slv spa srp sun swe swh "
        "tam tat tel tgk tgl tha tur ukr urd uzn vie vol war yor zho zsm"
    ),
}

# The encoders of each list, by the last part of their names. All of e5 continue from XLM-R, and
# mDeBERTa was pretrained on the same text.
_ENCODERS = {
    "xlm-r": r"builtin:e5-small|xlm-roberta-(base|large)|multilingual-e5-.+|mdeberta-v3-base",
    "mbert": r"(distil)?bert-base-multilingual-cased",
}

# Codes for the absence or the mixture of languages: no row of a grid.
_NO_LANGUAGE = frozenset({"mis", "mul", "und", "zxx"})

# Scripts in Unicode that run from right to left and are in use.
_RIGHT_TO_LEFT = ("Adlm", "Arab", "Aran", "Hebr", "Mand", "Nkoo", "Rohg", "Samr", "Syrc",
                  "Thaa", "Yezi")  # fmt: skip

# Codes of ISO 639-1 that were replaced; the tables still hold them.
_WITHDRAWN = frozenset({"bh", "in", "iw", "ji", "jw", "mo", "sh"})

_PRIVATE_USE = re.compile(r"q[a-t][a-z]")


@lru_cache(maxsize=4096)
def resolve(code: str, wikipedia: bool = False) -> str:
    """Turn any usual way of naming a language into its ISO 639-3 code.

    Args:
        code: an ISO 639-3 or 639-1 code, a BCP 47 tag (``-`` or ``_`` between its parts; script,
            region and the rest are dropped), a private-use code (``qaa`` to ``qtz``), a code of a
            Wikipedia (``bat-smg``), or an English name. What is both a code and a name is read as
            the code; what is both a name and a tag of several parts (``Pa-Hng``), as the name.
        wikipedia: whether it is known to be a code of a Wikipedia. Then ``als``, which is the ISO
            code of Tosk Albanian and so means that elsewhere, is Alemannic.

    Returns:
        The ISO 639-3 code, with macro-languages treated as the table at the head of this module
        says (``sw`` → ``swh``, ``ar`` → ``arb``, ``zh`` → ``zho``, ``no`` → ``nor``).

    Raises:
        UnknownNameError: nothing is known by that code or name (the nearest name is suggested),
            or it names a group of languages.
    """
    key = code.strip().lower().replace("_", "-")
    if wikipedia and key in _ONLY_WIKIPEDIAS:
        return _ONLY_WIKIPEDIAS[key]
    # A language that has a name with a hyphen is likelier than a tag which happens to be spelt so.
    first, second = (_from_name, _from_tag) if "-" in code else (_from_tag, _from_name)
    language = _WIKIPEDIAS.get(key) or first(code) or second(code)
    if language in _GROUPS.split():
        what = f'"{code}" is a group of languages ({name(str(language))})'
        hint = "for data in several use a private code (qaa to qtz)"
        raise UnknownNameError(f"{what}. Name one of them; {hint}.")
    if language is None or language in _NO_LANGUAGE:
        raise UnknownNameError(
            f'Unknown language "{code}".{_suggestion(code)} Write an ISO 639-3 code ("fao"), a '
            'BCP 47 tag ("fo", "zh-Hant"), or an English name ("Faroese"); for a variety '
            "without a code one of qaa to qtz."
        )
    return _ONE_LANGUAGE.get(language, language)


def same_language(code: str) -> tuple[str, ...]:
    """Return all codes of ISO 639-3 that `resolve` turns into this one, itself first."""
    return (code, *(old for old, new in _ONE_LANGUAGE.items() if new == code))


def macrolanguage(code: str) -> str:
    """Return the macro-language that a language is part of (``aka`` for ``twi``), or itself."""
    from langcodes import Language
    from langcodes.data_dicts import MACROLANGUAGES

    tag = MACROLANGUAGES.get(str(Language.get(code).language), code)
    return str(Language.get(tag, normalize=False).to_alpha3())


def public_code(code: str) -> str | None:
    """Return the shortest code of a language, as the hub wants it: ``is`` for ``isl``.

    Args:
        code: as `resolve` returns it.

    Returns:
        The ISO 639-1 code of the language or its macro-language, the ISO 639-3 code where there is
        none. None for a code for private use.
    """
    from langcodes.data_dicts import LANGUAGE_ALPHA3

    if _PRIVATE_USE.fullmatch(code):
        return None
    current = {two: three for two, three in LANGUAGE_ALPHA3.items() if len(two) == 2}
    short = {three: two for two, three in current.items() if two not in _WITHDRAWN}
    return next((short[known] for known in same_language(code) if known in short), code)


def encoder_languages(encoder: str) -> frozenset[str] | None:
    """Return the languages that an encoder was pretrained on; None where that is not known.

    Args:
        encoder: its id on the hub, its folder, or "builtin:e5-small".
    """
    last = encoder.rstrip("/").rpartition("/")[2]
    names = [key for key, pattern in _ENCODERS.items() if re.fullmatch(pattern, last)]
    return languages_in(names) if names else None


def languages_in(names: Iterable[str]) -> frozenset[str]:
    """Join lists of pretraining languages ("xlm-r", "mbert") and languages, as ISO 639-3 codes.

    Raises:
        UnknownNameError: a name is neither a list nor a language.
    """
    codes: set[str] = set()
    for key in names:
        try:
            codes.update(_PRETRAINED[key].split() if key in _PRETRAINED else [resolve(key)])
        except UnknownNameError as error:
            lists = f"{nearest(key, _PRETRAINED)} The lists are {listed(_PRETRAINED)}."
            raise UnknownNameError(f"{error}{lists}") from None
    return frozenset(codes)


@lru_cache(maxsize=4096)
def name(code: str) -> str:
    """Return the English name of a language, or the code itself where no name is known."""
    from langcodes import Language

    if _PRIVATE_USE.fullmatch(code):
        return code
    try:
        language = Language.get(_KEPT_APART.get(code, code), normalize=code not in _KEPT_APART)
    except ValueError:
        return code
    if not language.is_valid():
        return code
    # The tables tell a member apart from its macro-language by this remark, which says nothing
    # to a reader who sees only one of the two.
    return str(language.language_name()).removesuffix(" (individual language)")


def autonym(code: str) -> str:
    """Return the name of a language in itself; its English name where no other is known."""
    from langcodes import Language

    native = str(Language.get(_KEPT_APART.get(code, code)).autonym())
    return name(code) if native == str(Language.get(code).language_name()) else native


def is_right_to_left(code: str) -> bool:
    """Whether a language is usually written from right to left."""
    from langcodes import Language

    return Language.get(code).maximize().script in _RIGHT_TO_LEFT


@lru_cache(maxsize=1)
def common() -> tuple[str, ...]:
    """Return the codes of the languages whose speakers CLDR counts: about 600, sorted."""
    from language_data.population_data import (  # type: ignore[import-untyped,unused-ignore]
        LANGUAGE_SPEAKING_POPULATION,
    )

    languages = {_from_tag(tag.partition("-")[0]) for tag in LANGUAGE_SPEAKING_POPULATION}
    codes = languages - {None, *_NO_LANGUAGE, *_GROUPS.split()}
    return tuple(sorted({_ONE_LANGUAGE.get(str(code), str(code)) for code in codes}))


def _from_tag(tag: str) -> str | None:
    """Read a code or tag; ``None`` where it is not one."""
    from langcodes import Language

    tag = tag.strip()
    try:
        language = Language.get(tag)
        written = Language.get(tag, normalize=False).language
    except ValueError:
        return None
    # Private tags ("x-own") are valid, and no language; extended languages are not checked.
    is_language = language.is_valid() and language.language and len(language.language) <= 3
    if not is_language or language.extlangs:
        return None
    if extra := language.private or "-".join(language.extensions or ()):
        warnings.warn(f'"{extra}" in "{tag}" does not change the language.', stacklevel=3)
    for exact, subtag in _KEPT_APART.items():
        if written in (exact, subtag):
            return exact
    return str(language.to_alpha3())


def _from_name(text: str) -> str | None:
    """Read an English name; ``None`` where none or several languages have it."""
    names = _english_names()
    key = _key(text)
    kept_apart = _names_kept_apart()
    if key in kept_apart:
        return kept_apart[key]
    # What is as short as a code is meant as one. NUL confuses the table.
    known = len(key) > 3 and "\0" not in key and key in names
    return _from_tag(names[key][0].decode()) if known else None


@lru_cache(maxsize=1)
def _names_kept_apart() -> Mapping[str, str]:
    """The English names → codes of languages that the table gives to their neighbours."""
    return {_key(name(code)): code for code in _KEPT_APART}


@lru_cache(maxsize=1)
def _english_names() -> Mapping[str, Sequence[bytes]]:
    """The table of (case-folded) English names → codes that comes with ``language_data``."""
    from language_data.names import load_trie  # type: ignore[import-untyped,unused-ignore]
    from language_data.util import data_filename  # type: ignore[import-untyped,unused-ignore]

    # langcodes.find would do, were it not that it takes any text that begins with a name.
    table: Mapping[str, Sequence[bytes]] = load_trie(
        data_filename("trie/en/name_to_language.marisa")
    )
    return table


def _key(text: str) -> str:
    """The form in which a name stands in the table."""
    from language_data.names import normalize_name  # type: ignore[import-untyped,unused-ignore]

    return str(normalize_name(" ".join(text.split())))


def _suggestion(text: str) -> str:
    """Name the language whose English name is closest to a misspelt one, or the part in error."""
    key = _key(text)
    if len(key) <= 3:  # any two codes are alike
        return ""
    for candidate in difflib.get_close_matches(key, _english_names().keys(), n=1, cutoff=0.75):
        if language := _from_name(candidate):
            code = _ONE_LANGUAGE.get(language, language)
            return f' Did you mean "{name(code)}" ({code})?'
    start, _, rest = text.strip().replace("_", "-").partition("-")
    return f' "{rest}" means nothing after "{start}".' if rest and _from_tag(start) else ""
