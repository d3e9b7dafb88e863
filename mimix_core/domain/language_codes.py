"""Normalize language codes: files and containers write ``en``, ``eng``, ``en-US`` or ``ger``.

Not done by the package langcodes: it replaces ``tl`` by ``fil`` and ``jw`` by ``jv``, codes that
Whisper does not know.
"""

from __future__ import annotations

LANGUAGE_PATTERN = r"^([A-Za-z]{2,3}([-_][A-Za-z0-9]+)*)?$"
"""Codes that a person may write, or nothing."""

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
