"""Normalize language codes: files and containers write ``en``, ``eng``, ``en-US`` or ``ger``.

Not done by the package langcodes: it replaces ``tl`` by ``fil`` and ``jw`` by ``jv``, codes that
Whisper does not know.
"""

from __future__ import annotations

import re
import unicodedata

LANGUAGE_PATTERN = r"^([A-Za-z]{2,3}([-_][A-Za-z0-9]+)*)?$"
"""Codes that a person may write, or nothing."""


def _word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_THREE_LETTER_CODES = {
    "ar": "ara", "bg": "bul", "bn": "ben", "ca": "cat", "cs": "cze ces", "da": "dan",
    "de": "ger deu", "el": "gre ell", "en": "eng", "es": "spa", "et": "est", "eu": "baq eus",
    "fa": "per fas", "fi": "fin", "fr": "fre fra", "gl": "glg", "he": "heb", "hi": "hin",
    "hr": "hrv", "hu": "hun", "hy": "arm hye", "id": "ind", "is": "ice isl", "it": "ita",
    "ja": "jpn", "ka": "geo kat", "ko": "kor", "lt": "lit", "lv": "lav", "mk": "mac mkd",
    "ms": "may msa", "nl": "dut nld", "no": "nor", "pl": "pol", "pt": "por", "ro": "rum ron",
    "ru": "rus", "sk": "slo slk", "sl": "slv", "sq": "alb sqi", "sr": "srp", "sv": "swe",
    "ta": "tam", "te": "tel", "th": "tha", "tr": "tur", "uk": "ukr", "ur": "urd", "vi": "vie",
    "zh": "chi zho",
}  # fmt: skip
"""ISO 639-1 codes and their ISO 639-2 codes, bibliographic and terminological."""

_TWO_LETTER_CODES = {
    three: two for two, codes in _THREE_LETTER_CODES.items() for three in codes.split()
}

_OTHER_CODES = _word_set(
    "aa ab ae af ak am an as av ay az ba be bh bi bm bo br bs ce ch co cr cu cv cy dv dz ee eo ff "
    "fj fo fy ga gd gn gu gv ha ho ht hz ia ie ig ii ik io iu jv kg ki kj kk kl km kn kr ks ku kv "
    "kw ky la lb lg li ln lo lu mg mh mi ml mn mr mt my na nb nd ne ng nn nr nv ny oc oj om or os "
    "pa pi ps qu rm rn rw sa sc sd se sg si sm sn so ss st su sw tg ti tk tl tn to ts tt tw ty ug "
    "uz ve vo wa wo xh yi yo za zu cmn fil nno nob yue"
)
"""The other codes of ISO 639-1, and codes of three letters that have none of two."""

_LANGUAGE_NAMES = {
    "ar": "arabic", "bg": "bulgarian", "bn": "bengali", "ca": "catalan català", "cs": "czech "
    "čeština česky", "da": "danish dansk", "de": "german deutsch", "el": "greek ελληνικά",
    "en": "english", "es": "spanish español castellano castilian latino", "et": "estonian eesti",
    "eu": "basque", "fa": "persian farsi", "fi": "finnish suomi", "fr": "french français",
    "gl": "galician", "he": "hebrew עברית", "hi": "hindi", "hr": "croatian hrvatski",
    "hu": "hungarian magyar", "hy": "armenian", "id": "indonesian", "is": "icelandic",
    "it": "italian italiano", "ja": "japanese 日本語", "ka": "georgian", "ko": "korean 한국어",
    "lt": "lithuanian", "lv": "latvian", "mk": "macedonian", "ms": "malay melayu",
    "nl": "dutch nederlands", "no": "norwegian norsk", "pl": "polish polski",
    "pt": "portuguese português brazilian pob", "ro": "romanian română", "ru": "russian русский",
    "sk": "slovak", "sl": "slovenian", "sq": "albanian", "sr": "serbian srpski",
    "sv": "swedish svenska", "ta": "tamil", "te": "telugu", "th": "thai ไทย",
    "tr": "turkish türkçe", "uk": "ukrainian українська", "ur": "urdu", "vi": "vietnamese",
    "zh": "chinese mandarin cantonese chs cht tc simplified traditional 中文 简体 繁體 繁体 "
    "简英 繁英",
}  # fmt: skip
"""Names of languages in English and in themselves, as they occur in names of files and streams."""

_CODES_BY_NAME = {
    name.casefold(): code for code, names in _LANGUAGE_NAMES.items() for name in names.split()
}

_NO_SINGLE_LANGUAGE = ("und", "mul", "zxx", "mis")


def normalize_language_code(code: str) -> str:
    """Return a language's shortest code, without region: ``en`` for ``eng``, ``en-US``, ``EN_us``.

    Returns ``""`` for anything that is not a code of two or three letters, and for ``und``,
    ``mul``, ``zxx`` and ``mis``, which name no single language.
    """
    language = code.strip().lower().replace("_", "-").split("-")[0]
    if len(language) not in (2, 3) or not (language.isascii() and language.isalpha()):
        return ""
    if language in _NO_SINGLE_LANGUAGE:
        return ""
    return _TWO_LETTER_CODES.get(language, language)


def parse_language(text: str) -> str:
    """Return the code of a language given as a known code or as a name; ``""`` for other words.

    Unlike ``normalize_language_code`` it takes no unknown code: ``the`` is not a language.
    """
    word = unicodedata.normalize("NFC", text).strip().casefold()
    if word in _CODES_BY_NAME:
        return _CODES_BY_NAME[word]
    if word in _THREE_LETTER_CODES or word in _OTHER_CODES:
        return word
    return _TWO_LETTER_CODES.get(word, "")


def find_language_name(text: str) -> str:
    """Return the first language that a title names in full (``English (SDH)``), or ``""``."""
    words = re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", text).casefold())
    return next((_CODES_BY_NAME[word] for word in words if word in _CODES_BY_NAME), "")
