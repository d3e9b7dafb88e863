"""Names of languages: files and containers say ``en``, ``eng``, ``en-US``, ``ger`` or ``deu``."""

from __future__ import annotations

_THREE_LETTERS = {
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
"""ISO 639-1 and its 639-2 codes, bibliographic and terminological."""

_TWO_LETTERS = {three: two for two, codes in _THREE_LETTERS.items() for three in codes.split()}


def language(code: str) -> str:
    """The shortest code of a language without its region: ``en`` for ``eng``, ``en-US``, ``EN_us``.

    Empty for what is no code of two or three letters, and for ``und``, ``mul``, ``zxx`` and
    ``mis``, which name none.
    """
    main = code.strip().lower().replace("_", "-").split("-")[0]
    if len(main) not in (2, 3) or not (main.isascii() and main.isalpha()):
        return ""
    if main in ("und", "mul", "zxx", "mis"):
        return ""
    return _TWO_LETTERS.get(main, main)
