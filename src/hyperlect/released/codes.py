"""The names of languages in the released code: those of WikiANN, which are those of Wikipedias."""

from __future__ import annotations

from collections.abc import Mapping

# Those of WikiANN that as codes mean another language, a family of languages, or none. What they
# mean is MediaWiki's word (includes/language/LanguageCode.php); its bh has become bho.
_WIKIPEDIAS = {
    "als": "gsw",  # Alemannic; the code is Tosk Albanian's
    "bat-smg": "sgs",
    "be-x-old": "be-tarask",
    "bh": "bho",
    "eml": "egl",
    "fiu-vro": "vro",
    "map-bms": "jv-x-bms",
    "simple": "en-simple",
    "zh-classical": "lzh",
}


def usual_code(name: str, given: Mapping[str, str]) -> str:
    """Return a code that `languages.resolve` reads as the language of that name.

    Args:
        name: of a language in the released code.
        given: codes that come before what the name means there.
    """
    return given.get(name) or _WIKIPEDIAS.get(name, name)
