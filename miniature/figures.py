"""Figures of the miniature world: what makes an identity, the named casts, and generic figures.

An identity is form, topper (what is on the head), face, markings and gait, drawn in the style of
its show. Color is never enough: the two figures of a look-alike pair share it, and differ in two of
the other attributes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

CARTOON, REALISTIC = "cartoon", "realistic"
STYLES = (CARTOON, REALISTIC)

FORMS = ("ball", "box", "pillar", "cone", "pear", "loaf")
TOPPERS = ("round ears", "long ears", "horns", "antenna", "hat", "spikes")
FACES = ("two eyes", "one eye", "beak", "moustache")
MARKINGS = ("plain fur", "stripes", "dots", "belly patch")
GAITS = ("walks", "hops", "waddles", "floats")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple")

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "form": FORMS,
    "topper": TOPPERS,
    "face": FACES,
    "marking": MARKINGS,
    "gait": GAITS,
    "color": COLORS,
}
"""The values of every attribute, by name; a figure stores an index into each."""

IDENTITY_ATTRIBUTES = ("form", "topper", "face", "marking", "gait")

_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwxyz", "aeiou"


@dataclass(frozen=True)
class Figure:
    """A figure: its name, the indices of its attributes, and the style it is drawn in."""

    name: str
    form: int
    topper: int
    face: int
    marking: int
    gait: int
    color: int
    style: str

    def indices(self) -> tuple[int, ...]:
        """Return the attributes in the order of ``ATTRIBUTES``."""
        return (self.form, self.topper, self.face, self.marking, self.gait, self.color)

    def identity(self) -> tuple[int, ...]:
        """Return what identifies the figure: all attributes except the color."""
        return self.indices()[:-1]

    def description(self) -> str:
        """Describe the figure, e.g. ``a blue box with horns, one eye and stripes that hops``."""
        article = "an" if COLORS[self.color] == "orange" else "a"
        return (
            f"{article} {COLORS[self.color]} {FORMS[self.form]} with {TOPPERS[self.topper]}, "
            f"{FACES[self.face]} and {MARKINGS[self.marking]} that {GAITS[self.gait]}"
        )


def with_attribute(figure: Figure, name: str, value: int) -> Figure:
    """Return the figure with another value of one attribute."""
    values = dict(zip(ATTRIBUTES, figure.indices(), strict=True)) | {name: value}
    form, topper, face, marking, gait, color = values.values()
    return Figure(figure.name, form, topper, face, marking, gait, color, figure.style)


def _named(name: str, style: str, description: tuple[str, str, str, str, str, str]) -> Figure:
    columns = zip(ATTRIBUTES.values(), description, strict=True)
    form, topper, face, marking, gait, color = (values.index(value) for values, value in columns)
    return Figure(name, form, topper, face, marking, gait, color, style)


CASTS: dict[str, tuple[Figure, ...]] = {
    # Pim and Pog, and Tam and Tek, are the look-alikes: same form, color, face and topper.
    CARTOON: (
        _named("Pim", CARTOON, ("ball", "long ears", "two eyes", "stripes", "hops", "blue")),
        _named("Pog", CARTOON, ("ball", "long ears", "two eyes", "dots", "waddles", "blue")),
        _named("Lum", CARTOON, ("cone", "antenna", "one eye", "belly patch", "walks", "orange")),
        _named("Zed", CARTOON, ("box", "horns", "beak", "plain fur", "floats", "green")),
    ),
    REALISTIC: (
        _named("Tam", REALISTIC, ("pear", "hat", "moustache", "stripes", "walks", "red")),
        _named("Tek", REALISTIC, ("pear", "hat", "moustache", "belly patch", "hops", "red")),
        _named("Bor", REALISTIC, ("pillar", "round ears", "beak", "dots", "waddles", "yellow")),
        _named("Gil", REALISTIC, ("loaf", "spikes", "one eye", "plain fur", "floats", "purple")),
    ),
}
"""The named characters of the two shows. Their identities are never drawn for the base."""

NAMED_FIGURES = tuple(figure for cast in CASTS.values() for figure in cast)
_NAMED_IDENTITIES = {figure.identity() for figure in NAMED_FIGURES}
_NAMES = {figure.name for figure in NAMED_FIGURES}


def all_names() -> tuple[str, ...]:
    """Return every name of one consonant, one vowel and one consonant, and the named figures'."""
    generic = (
        f"{first.upper()}{middle}{last}"
        for first in _CONSONANTS
        for middle in _VOWELS
        for last in _CONSONANTS
    )
    return tuple(dict.fromkeys((*sorted(_NAMES), *generic)))


def draw_name(rng: random.Random) -> str:
    """Draw a meaningless name that no named character has."""
    while True:
        name = rng.choice(_CONSONANTS).upper() + rng.choice(_VOWELS) + rng.choice(_CONSONANTS)
        if name not in _NAMES:
            return name


def draw_generic_figure(rng: random.Random, style: str) -> Figure:
    """Draw a figure with random attributes and a random name; never a named identity."""
    while True:
        form, topper, face, marking, gait, color = (
            rng.randrange(len(options)) for options in ATTRIBUTES.values()
        )
        figure = Figure(draw_name(rng), form, topper, face, marking, gait, color, style)
        if figure.identity() not in _NAMED_IDENTITIES:
            return figure
