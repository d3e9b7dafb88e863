"""What subtitles say: their encoding, and each spoken line once, without signs and songs."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from mimix_core.stages.transcripts.styled_events import StyledEvent, select_dialogue
from mimix_core.stages.transcripts.subtitle_parser import (
    SubtitleFile,
    UnreadableSubtitles,
    read_subtitle_file,
)

CHINESE = "你去哪里了？我们走吧。\n他说他不知道这件事。"
TAIWANESE = "你去哪裡了？我們走吧。\n他說他不知道這件事。"
JAPANESE = "どこに行ったの？\n行こう、遅れるよ！\n彼は何も知らないと言った。"
KOREAN = "어디 갔었어? 가자.\n그는 아무것도 모른다고 말했어."
RUSSIAN = "В чём дело? Куда ты пошёл?\nОн сказал, что ничего не знает."
POLISH = "Gdzie byłeś? Chodźmy już.\nPowiedział, że nic nie wie.\nNie martw się, wkrótce wrócę."
POLISH += "\nWidziałeś tego kota?\nSzybciej, spóźnimy się!"
CZECH = (
    "Kde jsi byl? Pojďme už.\nŘekl, že nic neví.\nNeboj se, brzy se vrátím.\nViděl jsi tu kočku?"
)
GREEK = "Πού ήσουν; Πάμε τώρα.\nΕίπε ότι δεν ξέρει τίποτα.\nΜην ανησυχείς."
TURKISH = "Hiçbir şey bilmediğini söyledi.\nMerak etme, yakında döneceğim.\nO kediyi gördün mü?"
TURKISH += "\nIşıkları söndür."
ARABIC = "لا تقلق، سأعود قريبا.\nهل رأيت تلك القطة؟\nإنها تنتظرك في المطبخ.\nأسرع، سوف نتأخر!"
HEBREW = "הוא אמר שהוא לא יודע כלום.\nאל תדאג, אני אחזור בקרוב."
THAI = "คุณไปไหนมา ไปกันเถอะ\nเขาบอกว่าเขาไม่รู้อะไรเลย"
GERMAN = "Keine Sorge, ich komme zurück.\nHast du die Katze gesehen? Süß!\nSie wartet in der Küche."
ENGLISH = "Where is the “café”?\nIt’s late."


def srt(*texts: str) -> str:
    return "".join(
        f"{n}\n00:00:{n:02},000 --> 00:00:{n:02},900\n{text}\n\n" for n, text in enumerate(texts, 1)
    )


def read(
    folder: Path,
    content: str | bytes,
    suffix: str = ".srt",
    encoding: str = "",
    language: str = "",
) -> SubtitleFile:
    path = folder / f"words{suffix}"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_subtitle_file(path, encoding, language)


def spoken(found: SubtitleFile) -> list[tuple[float, float, str]]:
    return [(float(line.start), float(line.end), line.text) for line in found.lines]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CHINESE, "gbk"),
        (TAIWANESE, "big5"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "iso2022_jp"),
        (KOREAN, "cp949"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (RUSSIAN, "cp866"),
        (POLISH, "cp1250"),
        (POLISH, "iso8859-2"),
        (CZECH, "cp1250"),
        (CZECH, "iso8859-2"),
        (GREEK, "cp1253"),
        (GREEK, "iso8859-7"),
        (TURKISH, "cp1254"),
        (TURKISH, "iso8859-9"),
        (ARABIC, "cp1256"),
        (HEBREW, "cp1255"),
        (THAI, "cp874"),
        (GERMAN, "cp1252"),
        (ENGLISH, "cp1252"),
        (CHINESE, "utf-16-le"),
        (ENGLISH, "utf-16-be"),
        (CHINESE, "utf-16"),
        (RUSSIAN, "utf-32"),
    ],
)
def test_the_encoding_is_detected(tmp_path: Path, text: str, encoding: str) -> None:
    lines = text.split("\n")
    found = read(tmp_path, srt(*lines, "Okay.").encode(encoding))
    assert [line.text for line in found.lines] == [*lines, "Okay."]


@pytest.mark.parametrize(
    ("text", "encoding"), [(POLISH, "mac_latin2"), (RUSSIAN, "mac_cyrillic"), (POLISH, "cp852")]
)
def test_an_uncertain_encoding_fails_with_the_guesses(
    tmp_path: Path, text: str, encoding: str
) -> None:
    lines = text.split("\n")
    with pytest.raises(UnreadableSubtitles, match=r"not certain: \S+ \(\d+%\), \S+ \(\d+%\)"):
        read(tmp_path, srt(*lines).encode(encoding))
    found = read(tmp_path, srt(*lines).encode(encoding), encoding=encoding)
    assert [line.text for line in found.lines] == lines


def test_one_bad_byte_does_not_make_utf8_another_encoding(tmp_path: Path) -> None:
    content = srt("A café, señor.", "Good.", "naïve X").encode().replace(b"X", b"\xff")
    found = read(tmp_path, content)
    assert [line.text for line in found.lines] == ["A café, señor.", "Good.", "naïve \ufffd"]
    assert (found.encoding, found.replaced_bytes) == ("utf-8", 1)


def test_lines_that_are_numbers_are_kept(tmp_path: Path) -> None:
    numbered = srt("What year?\n1984", "42", "How much?\n500").rstrip("\n")
    expected = ["What year? 1984", "42", "How much? 500"]
    assert [line.text for line in read(tmp_path, numbered).lines] == expected
    doubled = numbered.replace("\n", "\n\n")
    assert [line.text for line in read(tmp_path, doubled).lines] == expected
    unnumbered = "\n".join(line for line in numbered.split("\n") if line not in ("1", "2", "3"))
    assert [line.text for line in read(tmp_path, unnumbered).lines] == expected
    truncated = srt("One.", "Two.") + "3\n"
    assert [line.text for line in read(tmp_path, truncated).lines] == ["One.", "Two."]


@pytest.mark.parametrize(("suffix", "mark"), [(".srt", ","), (".vtt", ".")])
def test_hours_have_any_number_of_digits(tmp_path: Path, suffix: str, mark: str) -> None:
    head = "WEBVTT\n\n" if suffix == ".vtt" else ""
    late = f"{head}1\n00:00:01{mark}000 --> 00:00:02{mark}000\nNow.\n\n"
    late += f"2\n100:00:03{mark}000 --> 1000:00:04{mark}500\nLate.\n"
    assert spoken(read(tmp_path, late, suffix)) == [(1, 2, "Now."), (360_003, 3_600_004.5, "Late.")]


def test_comments_and_identifiers_of_webvtt_are_not_said(tmp_path: Path) -> None:
    text = "WEBVTT\n\nNOTE not said\nnor this\n\nintro\n00:01.000 --> 00:02.000\n<v Bob>One.\n\n"
    text += "NOTE nor that\n\nlast\n00:03.000 --> 00:04.000\nTwo.\n\nNOTE end\n"
    assert spoken(read(tmp_path, text, ".vtt")) == [(1, 2, "One."), (3, 4, "Two.")]


ROLLING = [
    ("00.160", "03.429", " \none<00:00:00.960><c> two</c><00:00:01.520><c> three</c>"),
    ("03.429", "03.439", "one two three\n "),
    ("03.439", "05.749", "one two three\nfour<00:00:03.760><c> five</c>"),
    ("05.749", "05.759", "four five\n "),
    ("05.759", "07.000", "four five\nsix"),
]
SPOKEN = [(0.16, 3.439, "one two three"), (3.439, 5.759, "four five"), (5.759, 7, "six")]


def test_rolling_captions_are_spoken_once(tmp_path: Path) -> None:
    text = "WEBVTT\nKind: captions\n\n" + "".join(
        f"00:00:{start} --> 00:00:{end} align:start position:0%\n{text}\n\n"
        for start, end, text in ROLLING
    )
    assert spoken(read(tmp_path, text, ".vtt")) == SPOKEN
    # As yt-dlp converts it.
    plain = "".join(
        f"{n}\n00:00:{start.replace('.', ',')} --> 00:00:{end.replace('.', ',')}\n"
        + text.replace("<00:00:00.960><c>", "")
        .replace("<00:00:01.520><c>", "")
        .replace("<00:00:03.760><c>", "")
        .replace("</c>", "")
        + "\n\n"
        for n, (start, end, text) in enumerate(ROLLING, 1)
    )
    assert spoken(read(tmp_path, plain)) == SPOKEN


def test_captions_that_grow_or_roll_by_three_lines_are_spoken_once(tmp_path: Path) -> None:
    def contiguous(*texts: str) -> str:
        return "".join(
            f"{n}\n00:00:0{n},000 --> 00:00:0{n + 1},000\n{text}\n\n"
            for n, text in enumerate(texts, 1)
        )

    growing = contiguous("a", "a b", "a b c", "a b c d")
    assert spoken(read(tmp_path, growing)) == [(1, 5, "a b c d")]
    rolling = contiguous("a", "a\nb", "a\nb\nc", "b\nc\nd")
    assert [line.text for line in read(tmp_path, rolling).lines] == ["a", "b", "c", "d"]
    marked = contiguous("<u>Hello</u> world", "Hello <u>world</u>")
    assert spoken(read(tmp_path, marked)) == [(1, 3, "Hello world")]


def test_words_that_are_said_again_remain(tmp_path: Path) -> None:
    again = srt("No!", "No!\nPlease.", "Please.\nNo!", "No!")
    texts = [line.text for line in read(tmp_path, again).lines]
    assert texts == ["No!", "No! Please.", "Please. No!", "No!"]


ASS_HEAD = (
    "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\n\n[Events]\n"
    "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
)


def test_signs_and_songs_are_not_dialogue(tmp_path: Path) -> None:
    said = ["Where did he go?", "Into the saloon!", "{\\an8}{\\i1}Over here."]
    events = [
        f"0,0:00:0{n}.00,0:00:0{n}.90,Default,,0,0,0,,{text}" for n, text in enumerate(said, 1)
    ]
    events += [
        f"5,0:00:01.{n:02},0:00:01.{n + 4:02},{style},,0,0,0,,{{\\pos({n},9)}}SALOON"
        for n in range(0, 96, 4)
        for style in ("Signs", "Default")
    ]
    events += [
        f"1,0:00:03.{n}0,0:00:03.{n}9,{style},,0,0,0,{effect},{text}"
        for n in range(9)
        for style, effect, text in (
            ("OP Romaji", "fx", "{\\pos(1,1)}ko"),
            ("Default", "Karaoke", "no"),
            ("ED", "", "yo"),
            ("Song_lyrics", "", "la la"),
            ("Default", "", "{\\k20}la{\\k30}la"),
        )
    ]
    found = read(tmp_path, ASS_HEAD + "".join(f"Dialogue: {e}\n" for e in events), ".ass")
    assert [line.text for line in found.lines] == [*said[:2], "Over here."]
    assert found.typesetting_events == len(events) - 3


def styled(text: str, style: str = "Default", seconds: str = "2", effect: str = "") -> StyledEvent:
    return StyledEvent(Fraction(1), Fraction(1) + Fraction(seconds), text, style, effect)


def test_captions_of_a_broadcast_are_dialogue_although_all_are_placed() -> None:
    placed = [styled(f"{{\\pos({n},400)}}line {n}") for n in range(9)]
    assert select_dialogue(placed) == placed
    moving = [styled(f"{{\\pos({n},400)}}SALOON", seconds="0.04") for n in range(48)]
    assert select_dialogue(moving) == []


def test_a_speaker_named_ed_is_heard() -> None:
    assert (
        len(select_dialogue([styled("Hello.", "Ed"), styled("Hm.", "Signora"), styled("x", "ED2")]))
        == 2
    )


GOOD = srt("Hello there.", "Bye.")


@pytest.mark.parametrize(
    "content",
    [
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r"),
        GOOD.replace("\n", "\r\r\n"),
        GOOD.replace("\n", "\r\n", 3),
        GOOD.replace("2\n", "\ufeff2\n", 1),
        GOOD.replace("Bye", "\ufeffB\0ye\u200e"),
        GOOD.replace("-->", "->"),
        GOOD.replace("-->", "\u2192"),
        GOOD.replace("-->", "\u2013>"),
        GOOD.replace("-->", "--&gt;"),
        GOOD.replace(":", ": ").replace(",", ", "),
        GOOD.replace(",900", ",900  X1:100 X2:200 Y1:10 Y2:20"),
        GOOD.replace("Hello", "<font color='#fff'><i>{\\an8}Hello</i></font>").replace(
            ".", "&#46;"
        ),
        "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:9\n\nREGION\nid:a\nscroll:up\n\n"
        "STYLE\n::cue { content: '00:01 --> 00:02' }\n\n"
        + GOOD.replace(",900", ".900 region:a").replace("Hello", "<v.loud Ann><c.red>Hello</c>"),
        GOOD.encode("utf-16") + b"\n",
        GOOD.encode("utf-16-le")[:-1],
        GOOD.replace("1\n", "1\n-00:00:03,000 --> -00:00:02,000\n\n", 1),
    ],
)
def test_variants_of_a_file_say_the_same(tmp_path: Path, content: str | bytes) -> None:
    found = read(tmp_path, content)
    assert spoken(found) == [(1, 1.9, "Hello there."), (2, 2.9, "Bye.")]


def test_times_that_cannot_be_read_cost_their_cue_only(tmp_path: Path) -> None:
    text = srt("One.", "Go --> that way.", "Three.").replace("00:00:03,000", "00:00:-3,000")
    found = read(tmp_path, text)
    assert [line.text for line in found.lines] == ["One.", "Go --> that way."]
    assert found.invalid_cues == 1


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("[ti:Song]\n[00:01.00]Hello\n", "LRC"),
        ("<SAMI><BODY><SYNC Start=1000><P Class=ENCC>Hello.</BODY></SAMI>", "SAMI"),
        ("{1}{1}23.976\n{25}{50}Hello.|there\n", "MicroDVD"),
        ("{25}{50}Hello.|there\n", "MicroDVD"),
        ("[10][20]Hello.|there\n", "MPL2"),
        ('<?xml version="1.0"?><tt xmlns="http://www.w3.org/ns/ttml"><p>Hello</p></tt>', "TTML"),
        ("0:00:01.000,0:00:02.000\nHello\n", "SBV"),
        ("# VobSub index file, v7\nsize: 720x576\n", "VobSub"),
        ("<!DOCTYPE html><html><body>404 --> gone</body></html>", "a web page"),
        ('{"events": [{"tStartMs": 0}]}', "JSON"),
        (b"PK\x03\x04" + bytes(range(256)) * 4, "not text"),
        ("\n\n  \n", "empty"),
        ("Hello.\nBye.\n", "no cue with times"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, content: str | bytes, name: str) -> None:
    with pytest.raises(UnreadableSubtitles, match=name):
        read(tmp_path, content)


def test_events_of_unusual_ass_files_are_read(tmp_path: Path) -> None:
    head = ASS_HEAD.partition("Format: Layer")[0] + "Format: Start, End, Style, Text\n"
    events = "Dialogue: 100:00:01.00,100:00:02.50,Default,Late, very late\nDialogue: x,y,z,w\n"
    events += "Dialogue: -0:00:01.00,0:00:02.00,Default,Early\n\n[Fonts]\nDialogue: 1\n"
    found = read(tmp_path, head + events, ".ass")
    assert spoken(found) == [(0, 2, "Early"), (360_001, 360_002.5, "Late, very late")]
    assert found.invalid_cues == 1


def test_two_languages_at_the_same_time_stay_in_order(tmp_path: Path) -> None:
    event = "Dialogue: 0,0:00:01.00,0:00:02.00,{},,0,0,0,,{}\n"
    text = ASS_HEAD + event.format("Chinese", "你去哪里了") + event.format("English", "Where?")
    assert [line.text for line in read(tmp_path, text, ".ass").lines] == ["你去哪里了", "Where?"]


SAID = {
    "en": "Where have you been?|We are not going.|He said that it was this.|What do you want?|"
    "I have to go with you.|Tom!",
    "zh": "你去哪里了？|我们不走。|他说就是这个。|你想要什么？|我得跟你去。|汤姆！",
    "ja": "どこに行ってたの？|私たちは行かない。|彼はこれだと言った。|何が欲しいの？|"
    "一緒に行かないと。|トム！",
    "ru": "Где ты был?|Мы не пойдём.|Он сказал, что это.|Чего ты хочешь?|Я должен идти.|Том!",
    "es": "¿Por qué no está?|Que no me lo des.|Es la que te di.|¿Qué es lo que te pasa?|"
    "No se lo di para ti.|¡Tom!",
    "de": "Wo ist das?|Wir sind nicht hier.|Er ist so mit mir.|Was ist das für ein Tier?|"
    "Ich und du, das ist es.|Tom!",
}


def bilingual(one: str, other: str, arrangement: str) -> tuple[str, str]:
    """A file that says everything in two languages, and its suffix."""
    event = "Dialogue: 0,0:00:{0:02}.00,0:00:{0:02}.90,{1},,0,0,0,,{2}\n"
    pairs = list(zip(SAID[one].split("|"), SAID[other].split("|"), strict=True))
    if arrangement == "rows of srt":
        return srt(*(f"{first}\n{second}" for first, second in pairs)), ".srt"
    if arrangement == "cues of srt":
        times = "00:00:{0:02},000 --> 00:00:{0:02},900"
        cues = [(times.format(n), text) for n, pair in enumerate(pairs) for text in pair]
        return "".join(f"{n}\n{time}\n{text}\n\n" for n, (time, text) in enumerate(cues)), ".srt"
    lines = []
    for n, (first, second) in enumerate(pairs, 1):
        if arrangement == "styles":
            lines += [event.format(n, "Up", first), event.format(n, "Down", second)]
        else:
            lines.append(event.format(n, "Default", f"{first}\\N{{\\fs12}}{second}"))
    return ASS_HEAD + "".join(lines), ".ass"


@pytest.mark.parametrize("arrangement", ["styles", "rows", "rows of srt", "cues of srt"])
@pytest.mark.parametrize(
    ("one", "other"), [("zh", "en"), ("en", "ja"), ("ru", "en"), ("es", "en"), ("en", "de")]
)
def test_of_two_languages_the_asked_one_is_read(
    tmp_path: Path, one: str, other: str, arrangement: str
) -> None:
    content, suffix = bilingual(one, other, arrangement)
    for language in (one, other):
        found = read(tmp_path, content, suffix, language=language)
        assert [line.text for line in found.lines] == SAID[language].split("|")
        assert found.other_language_lines == 6
    for unasked in ("", "fi", "ko"):
        found = read(tmp_path, content, suffix, language=unasked)
        assert len(" ".join(line.text for line in found.lines).split("Tom")) >= 2
        assert found.other_language_lines == 0


def test_subtitles_in_one_language_stay_whole(tmp_path: Path) -> None:
    rows = srt(*(f"- {a}\n- {b}" for a, b in pairwise(SAID["en"].split("|"))))
    signs = srt(*SAID["zh"].split("|"), "SALOON\n酒馆", "OK!")
    for content, language in ((rows, "en"), (rows, "es"), (signs, "zh"), (signs, "en")):
        found = read(tmp_path, content, language=language)
        assert found.other_language_lines == 0
        assert len(found.lines) == len(content.split("-->")) - 1
    chance = srt(*(f"What is it that you want of this?\nTom, Jerry, Spike {n}!" for n in range(9)))
    assert read(tmp_path, chance, language="en").other_language_lines == 0
    event = "Dialogue: 0,0:00:{0:02}.00,0:00:{0:02}.90,{1},,0,0,0,,{2}\n"
    said = SAID["en"].split("|")
    styles = ASS_HEAD + "".join(
        event.format(n, ("Main", "Italics")[n % 2], text) for n, text in enumerate(said, 1)
    )
    assert [x.text for x in read(tmp_path, styles, ".ass", language="en").lines] == said


def test_names_in_latin_letters_are_part_of_chinese(tmp_path: Path) -> None:
    pairs = [("叫我 Tom 吧", "Call me Tom"), ("他是 James Bond", "He is James Bond")] * 3
    content = srt(*(f"{first}\n{second}" for first, second in pairs), "只有中文", "Only English")
    for language, expected in (
        ("zh", [first for first, _ in pairs] + ["只有中文"]),
        ("en", [second for _, second in pairs] + ["Only English"]),
    ):
        found = read(tmp_path, content, language=language)
        assert [line.text for line in found.lines] == expected


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CHINESE, "gbk"),
        (TAIWANESE, "big5"),
        (KOREAN, "cp949"),
        (HEBREW, "cp1255"),
        (GREEK, "cp1253"),
    ],
)
def test_one_bad_byte_does_not_change_the_encoding(
    tmp_path: Path, text: str, encoding: str
) -> None:
    lines = text.split("\n") * 6
    content = srt(*lines, "END").encode(encoding).replace(b"END", b"\xff")
    found = read(tmp_path, content)
    assert [line.text for line in found.lines][:-1] == lines
    assert found.replaced_bytes == 1
