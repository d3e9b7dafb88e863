"""Check the words of a caption: its language, and quotes against the dialogue."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable


def _word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that occur in nearly every sentence of their language. A caption has about ten words: a
# language detector would not find more evidence in them, and would need a model.
_ENGLISH_WORDS = _word_set(
    "a an and are as at away back behind but by down from her his in into is it its of off on "
    "onto out over she the their them then they to toward towards under up while who with"
)
_FOREIGN_WORDS = _word_set(
    # German, French, Spanish, Italian, Portuguese, Dutch; none of them is also an English word.
    "und der das ist ein eine einen mit auf von zu dem den sich nicht im "
    "le les est dans avec une du des sur qui et il elle sa ses "
    "el los las con una del que su sus hacia "
    "gli della nel che sono di "
    "os uma com na para em "
    "het een op zijn niet naar"
)
# Words that English writes with accents too, here without them.
_BORROWED_WORDS = _word_set(
    "a creme brulee caramel fraiche cafe naive naivete resume resumes fiance fiancee decor facade "
    "jalapeno jalapenos pinata pinatas senor senora senorita uber pokemon deja vu entree entrees "
    "saute sauted souffle puree mache touche cliche cliches cliched protege expose blase "
    "passe risque nee matinee pate crepe crepes chateau fete tete rose doppelganger smorgasbord "
    "nino nina acai sao paulo beyonce voila papier jager divorcee emigre lame outre seance soiree "
    "tiramisu consomme flambe frappe canape canapes bete noire piece angstrom el espanol habanero "
    "negligee precis regime role hotel debut melee etude epee aperitif bebe bechamel cortege "
    "eclair eclairs garcon gruyere mousse parti pris recherche roue roux table vis zoe chloe renee"
)
_MAX_ACCENTED_SHARE = 0.2
# Straight single quotes only where they cannot be an apostrophe.
_QUOTES = re.compile(
    '"([^"]+)"|\u201c([^\u201d]+)\u201d|\u201e([^\u201c\u201d]+)[\u201c\u201d]|\u00ab([^\u00bb]+)\u00bb'
    "|(?<![^\\s(])'([^']+(?:'[a-z][^']*)*)'(?![a-z])|(?<!\\w)\u2018(.+?)\u2019(?!\\w)"
)


# 'n' in rock 'n' roll, 'til, 'cause: their apostrophes are no quotation marks.
_ELISION = re.compile(
    r"(?<!\w)['\u2018\u2019](?:n['\u2019]?|til|till|tis|twas|cause|cuz|em|round|bout|kay|s)(?!\w)",
    re.IGNORECASE,
)

_TEXT_CARRIER = (
    r"(?:signs?|signboard|posters?|banners?|labels?|boards?|billboard|screens?|monitor|placards?|"
    r"plaques?|letters?|notes?|cards?|books?|newspapers?|headlines?|magazines?|covers?|logos?|"
    r"shirts?|t-shirts?|caps?|hats?|jackets?|buttons?|badges?|tags?|stickers?|boxes|box|cans?|"
    r"bottles?|bags?|jars?|walls?|doors?|windows?|trucks?|vans?|cars?|buses|bus|maps?|tombstones?|"
    r"gravestones?|graffiti|neon|marquee|storefront|shops?|stores?|restaurants?|buildings?|"
    r"envelopes?|mugs?|flags?|pages?|papers?|words?|texts?|titles?|inscription|caption|initials)"
)
# Between what carries a text and the text itself: nothing that somebody does.
_VISIBLE_BEFORE = re.compile(
    rf"(?:\b{_TEXT_CARRIER}\b(?:\s+(?!(?:and|then|while|who|as)\b)[^\s.;]+){{0,6}}|"
    r"\b(?:reads|reading|labell?ed|marked|titled|entitled|inscribed|spells|spelling|written|printed|"
    r"painted|engraved|named|called|branded)(?:\s+(?:with|out|as|in|the|words?)){0,3})[\s,:]*$",
    re.IGNORECASE,
)
_SPEECH_BEFORE = re.compile(
    r"\b(?:shouts?|yells?|screams?|asks?|whispers?|replies|answers?|exclaims?|cries|mutters?|sings?)"
    r"\b[^.]*$",
    re.IGNORECASE,
)
_VISIBLE_AFTER = re.compile(
    rf"^[\s,]*(?:(?:neon|wooden|big|small|red)\s+)?{_TEXT_CARRIER}\b|"
    r"^[\s,]*(?:is|are)?\s*(?:written|printed|painted|engraved)\b|"
    rf"^\s+on\s+(?:\w+\s+){{0,3}}{_TEXT_CARRIER}\b",
    re.IGNORECASE,
)


def _is_visible_text(before: str, after: str) -> bool:
    """Return whether a quote between two parts of a text is written somewhere, not spoken."""
    if _VISIBLE_AFTER.search(after):
        return True
    match = _VISIBLE_BEFORE.search(before)
    return match is not None and not _SPEECH_BEFORE.search(match[0])


def normalize_words(text: str) -> list[str]:
    """Split a text into words without case, accents and punctuation."""
    plain = unicodedata.normalize("NFKD", text.casefold().replace("\u2019", "'"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return re.findall(r"[^\W_]+", plain.replace("'", ""))


def _fold(word: str) -> str:
    return "".join(normalize_words(word))


def extract_quotes(text: str) -> list[str]:
    """Return the parts of a text in quotation marks, without texts that are seen in the picture."""
    text = _ELISION.sub(lambda match: " " * len(match[0]), text)
    quotes = []
    for match in _QUOTES.finditer(text):
        if not _is_visible_text(text[: match.start()], text[match.end() :]):
            quotes.append(next(part for part in match.groups() if part))
    return quotes


def find_unsupported_quotes(
    texts: Iterable[str], dialogue: str, names: Collection[str] = ()
) -> list[str]:
    """Find quotes in ``texts`` that are not a consecutive sequence of words in ``dialogue``.

    ``names`` are no quotes, whatever marks they contain.
    """
    spoken = " " + " ".join(normalize_words(dialogue)) + " "
    marked = [re.escape(name) for name in names if set(name) & set("'\"\u2018\u201c\u201e\u00ab")]
    plain = [re.sub("|".join(marked), " ", text) if marked else text for text in texts]
    return [
        quote
        for text in plain
        for quote in extract_quotes(text)
        if normalize_words(quote) and f" {' '.join(normalize_words(quote))} " not in spoken
    ]


def is_english(text: str, names: Collection[str] = ()) -> bool:
    """Return whether a text may be English; ``names`` in it are ignored.

    A light check: false for letters of another alphabet, for words with accents that English has
    not borrowed, and for function words of other languages that outnumber the English ones.
    """
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", text)
    letters = [c for c in text if c.isalpha()]
    if sum(unicodedata.name(c, "").startswith("LATIN") for c in letters) < 0.9 * len(letters):
        return False
    all_words = re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", text).casefold())
    accented = [w for w in all_words if not w.isascii() and _fold(w) not in _BORROWED_WORDS]
    if len(accented) > max(1, _MAX_ACCENTED_SHARE * len(all_words)):
        return False
    words = [word for word in all_words if word.isascii()]
    foreign = sum(word in _FOREIGN_WORDS for word in words)
    return foreign < 2 or foreign <= sum(word in _ENGLISH_WORDS for word in words)
