"""Spoil inputs: bytes of any kind, and values of parsed documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import yaml

MAX_BYTES = 1_000_000
"""Largest size of a spoilt input: what takes quadratic time takes minutes by then, and what takes
a second or two for each megabyte stays below the limit."""

_MAX_PARSED = 100_000
"""Size up to which documents are parsed to spoil them, which is slower than spoiling bytes."""

_MAX_MARKS = 300
"""Number of each mark that begins a collection, up to which YAML is parsed to spoil it."""

ODD_TEXTS = (
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "\ud800",
        "\udcff",
        "\ufeff",
        "\u202etxt",
        "שלום",
        "日本語",
        "e\u0301",
    ),
    *("\u2028", "\x1b[31m", "\x7f", "\x85", "😀", "ﬁ", "İ", "ß", "\t", "\n", "a\nb", "\r"),
    *("..", ".", "/", "//", "../../../etc/passwd", "/etc/passwd", "/dev/zero", "/proc/self/mem"),
    *("~", "~root", "C:\\x", "\\\\server\\x", "http://127.0.0.1:1/x", "file:///etc/passwd"),
    *("-i", "--help", "*", "**", "**/*", "?", "[", "[!", "[a-", "a" * 300, "a/" * 200, "é" * 4096),
    *("x" * 5000, "%s%n", "{0}", "$(id)", "`id`", "<script>", "' OR 1=1", "[bold]", "NaN", "inf"),
    *("1e999", "-0", "9" * 400, "9" * 5000, "0x10", "1_000", "01", "1/0", "1/3", "²", "٣", "null"),
    *("true", "yes", "2024-02-30", "12:30:45", "=", "<<", "!!x", "&a", "*a", "---", "...", "#"),
)
ODD_NUMBERS = (
    *(0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308),
    *(float("inf"), float("-inf"), float("nan"), 4096, 65536, 255, 81),
)


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def odd_value(rng: Random) -> Any:
    """Return a value that is seldom seen where another one is expected."""
    match rng.randrange(8):
        case 0 | 1 | 2:
            return rng.choice(ODD_TEXTS)
        case 3 | 4:
            return rng.choice(ODD_NUMBERS)
        case 5:
            return rng.choice((None, True, False, [], {}, [[]], {"": None}, [None], {"a": {}}))
        case 6:
            depth, value = rng.choice((5, 70, 300)), [0]
            for _ in range(depth):
                value = [value] if rng.random() < 0.5 else {"a": value}  # type: ignore[assignment]
            return value
        case _:
            return [rng.choice(ODD_TEXTS) for _ in range(rng.randrange(5))]


def spoil_value(value: Any, rng: Random) -> Any:
    """Return a copy of a document with one of its values changed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        return _spoil_mapping(dict(value), rng)
    if isinstance(value, list) and value and rng.random() < 0.9:
        return _spoil_list(list(value), rng)
    if isinstance(value, str) and value and rng.random() < 0.5:
        place = rng.randrange(len(value) + 1)
        return value[:place] + rng.choice(ODD_TEXTS) + value[place:]
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.6:
        return rng.choice((*ODD_NUMBERS, -value, str(value)))
    return odd_value(rng)


def _spoil_mapping(value: dict[Any, Any], rng: Random) -> dict[Any, Any]:
    key = rng.choice(list(value))
    match rng.randrange(12):
        case 0:
            del value[key]
        case 1:
            value[rng.choice(ODD_TEXTS)] = value[key]
        case 2:
            value[rng.choice(ODD_TEXTS)] = value.pop(key)
        case 3:
            value[key] = odd_value(rng)
        case 4:
            value[key] = value[rng.choice(list(value))]
        case _:
            value[key] = spoil_value(value[key], rng)
    return value


def _spoil_list(value: list[Any], rng: Random) -> list[Any]:
    place = rng.randrange(len(value))
    match rng.randrange(12):
        case 0:
            del value[place]
        case 1:
            value *= rng.choice((2, 3, 50))
        case 2:
            value.insert(place, odd_value(rng))
        case 3:
            rng.shuffle(value)
        case _:
            value[place] = spoil_value(value[place], rng)
    return value


def spoil_json(data: bytes, rng: Random) -> bytes:
    """Spoil a value of a JSON document; one that is no JSON any more is spoilt as text."""
    if len(data) > _MAX_PARSED:
        return spoil_bytes(data, rng)
    try:
        document = json.loads(data)
        spoilt = spoil_value(document, rng)
        return json.dumps(spoilt, ensure_ascii=rng.random() < 0.7).encode()
    except (ValueError, RecursionError):
        return spoil_bytes(data, rng)


def spoil_yaml(data: bytes, rng: Random) -> bytes:
    """Spoil a value or the notation of a YAML document; other bytes are spoilt as text."""
    # libyaml's loader recurses for each level: a few ten thousand of them end the process.
    is_deep = any(data.count(mark) > _MAX_MARKS for mark in (b"[", b"{", b"- ", b"? "))
    if rng.random() < 0.4 or len(data) > _MAX_PARSED or is_deep or b"*l" in data:
        return spoil_text(data, rng, _YAML_PARTS)
    try:
        spoilt = spoil_value(yaml.load(data, Loader=_LOADER), rng)
        if rng.random() < 0.3:
            return json.dumps(spoilt).encode()
        return yaml.dump(spoilt, Dumper=_DUMPER, sort_keys=False, width=10_000).encode()
    except Exception:  # PyYAML raises many kinds for documents that are spoilt already
        return spoil_text(data, rng, _YAML_PARTS)


_LAUGHS = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 12))
_YAML_PARTS = (
    *(
        "&a ",
        "*a",
        "*b ",
        "<<: *a\n",
        "<<: {}\n",
        "? [a, b]\n: c\n",
        "- ",
        ": ",
        "\t",
        "|\n",
        ">-\n",
    ),
    *("!!python/object/apply:os.system [id]\n", "!!binary aaa=", "!!set {a}", "!!float x", "!x "),
    *("!!timestamp 2024-02-30", "!!omap [a: 1]", "%YAML 9.9\n---\n", "---\n", "...\n", "[" * 3000),
    *("{a: " * 3000, "- " * 3000, "0x" + "f" * 300, "1:" * 300, "1e999", ".nan", ".inf", "0o7_7"),
    *("l0: &l0 x\n" + _LAUGHS, "&a [*a]", "\\ud800", '"\\0"', '"\\ud800"', '"\\x1b"', "2001-99-99"),
)


def spoil_text(data: bytes, rng: Random, parts: Sequence[str]) -> bytes:
    """Spoil a text by one of a format's own parts, or as any bytes."""
    if rng.random() < 0.5:
        return spoil_bytes(data, rng)
    part = rng.choice(parts).encode("utf-8", "surrogatepass")
    place = _line_start(data, rng) if rng.random() < 0.6 else rng.randrange(len(data) + 1)
    match rng.randrange(8):
        case 0:
            return _repeat(data, place, part, rng)
        case 1:
            return data[:place] + part + data[place + len(part) :]
        case _:
            return data[:place] + part + data[place:]


def _line_start(data: bytes, rng: Random) -> int:
    starts = [0] + [n + 1 for n, byte in enumerate(data[:20_000]) if byte == 10]
    return rng.choice(starts)


def _repeat(data: bytes, place: int, part: bytes, rng: Random) -> bytes:
    most = max(1, MAX_BYTES // max(1, len(part)))
    return data[:place] + part * min(most, int(10 ** (6 * rng.random() ** 2))) + data[place:]


def spoil_bytes(data: bytes, rng: Random) -> bytes:
    """Spoil bytes of any format."""
    if not data:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(40)))
    return rng.choice(_ON_BYTES)(data, rng)


def _span(data: bytes, rng: Random) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + 1 + int(10 ** rng.uniform(0, 3)))


def _flip(data: bytes, rng: Random) -> bytes:
    spoilt = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 16))):
        spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def _overwrite(data: bytes, rng: Random) -> bytes:
    start, end = _span(data, rng)
    end = min(end, start + 8)
    filler = rng.choice((b"\0", b"\xff", b"\x80", b"9", b" ", b"\n", b'"', b"[", b"{", b"\x7f"))
    return data[:start] + filler * (end - start) + data[end:]


def _cut(data: bytes, rng: Random) -> bytes:
    start, end = _span(data, rng)
    return data[:start] if rng.random() < 0.3 else data[:start] + data[end:]


def _repeat_span(data: bytes, rng: Random) -> bytes:
    start, end = _span(data, rng)
    if rng.random() < 0.4:
        end = start + 1
    return _repeat(data, start, data[start:end], rng)


def _insert(data: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    part = rng.choice(ODD_TEXTS).encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        return _repeat(data, place, part, rng)
    return data[:place] + part + data[place:]


def _enlarge_number(data: bytes, rng: Random) -> bytes:
    digits = [n for n, byte in enumerate(data[:50_000]) if 48 <= byte <= 57]
    if not digits:
        return _insert(data, rng)
    place = rng.choice(digits)
    number = rng.choice((b"9" * 20, b"9" * 400, b"9" * 5000, b"1e999", b"-1", b"0", b"4294967296"))
    return data[:place] + number + data[place + 1 :]


def _swap_lines(data: bytes, rng: Random) -> bytes:
    lines = data.split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    if rng.random() < 0.5:
        lines.insert(first, lines[second])
    else:
        lines[first], lines[second] = lines[second], lines[first]
    return b"\n".join(lines)


def _reencode(data: bytes, rng: Random) -> bytes:
    text = data.decode("utf-8", "replace")
    form = rng.choice(
        ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp1252", "cp037")
    )
    return text.encode(form, "replace")


def _change_line_ends(data: bytes, rng: Random) -> bytes:
    return data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\0", b" ", b"\n\n", b"\xe2\x80\xa8")))


_ON_BYTES: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(_flip, _overwrite, _cut, _repeat_span, _insert, _enlarge_number, _swap_lines, _reencode),
    _change_line_ends,
)
