"""Compare the characters of a library's shows, before a model is trained that could mix them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from mimix_core.characters.bank import CharacterBank, LookAlike, build_bank, encode_exemplar
from mimix_core.domain.library import Library
from mimix_core.networks.efficientnet import load_network, typical_features
from mimix_core.project.named_tracks import named_exemplars

ADVICE = (
    "Give both more reference images of the whole figure, name in the captions' descriptions what "
    "tells them apart, and make more composites of the pair (docs/characters.md)."
)


def load_library_bank(
    library: Library,
    decisions: Path,
    workspace: Path,
    show_ids: Collection[str] | None = None,
) -> CharacterBank:
    """Encode the exemplars of shows: reference images and the crops of named tracks.

    ``decisions`` and ``workspace``: where named tracks and their crops are. ``show_ids``: None for
    all shows. With several shows a character's name is followed by its show's id. Raises BadInput
    for an image that cannot be read, and MissingModel.
    """
    shows = [show for show in library.shows if show_ids is None or show.id in show_ids]
    exemplars = {}
    for show in shows:
        named = named_exemplars(decisions, workspace, show.id)
        for character in show.characters:
            label = character.name if len(shows) == 1 else f"{character.name} ({show.id})"
            exemplars[label] = (*character.references, *named.get(character.name, ()))
    if not any(exemplars.values()):
        return CharacterBank({})
    network = load_network()
    features = {
        label: [encode_exemplar(network, path) for path in paths]
        for label, paths in exemplars.items()
    }
    return build_bank(features, typical_features(network))


def alarming_pairs(bank: CharacterBank) -> list[LookAlike]:
    """Return the pairs of which one is nearer to the other than to itself, most alike first."""
    return [pair for pair in bank.look_alikes() if pair.alarming]


def describe_pair(pair: LookAlike) -> str:
    """Describe a pair of look-alikes with the similarities that make it one."""
    known = [
        (name, value)
        for name, value in zip((pair.first, pair.second), pair.own, strict=True)
        if value is not None
    ]
    if len(known) == 2:
        own = "to themselves " + " and ".join(f"{value:.2f}" for _, value in known)
    else:
        own = ", ".join(f"{name} to itself {value:.2f}" for name, value in known)
    return f"{pair.first} and {pair.second} {pair.similarity:.2f} ({own})"
