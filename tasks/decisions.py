"""Read people's decisions on items, and hand each stage those that it must obey.

A stage gets only what concerns it, so that a decision computes nothing again that does not depend
on it (docs/studio.md).
"""

from __future__ import annotations

from mimix_core.domain.ids import episode_id_of_clip
from mimix_core.project.item_decisions import CropBox, ItemKind, read_item_decisions
from mimix_core.project.workspace import Workspace


def load_edited_captions(workspace: Workspace) -> dict[str, str]:
    """Load the captions that people wrote in the studio, by clip or composite."""
    return read_item_decisions(workspace.config.decisions).edited_captions()


def load_vetoes(workspace: Workspace) -> tuple[str, ...]:
    """Load the ids of clips, cutouts and composites that people rejected, sorted."""
    return tuple(sorted(read_item_decisions(workspace.config.decisions).rejections(*ItemKind)))


def load_rejected_clips(workspace: Workspace) -> dict[str, str]:
    """Load the rejected clips of the library's episodes, each with the reason."""
    known = {episode.id for episode in workspace.episodes}
    rejected = read_item_decisions(workspace.config.decisions).rejections(ItemKind.CLIP)
    return {name: why for name, why in rejected.items() if episode_id_of_clip(name) in known}


def load_moved_crops(workspace: Workspace) -> dict[str, dict[str, CropBox]]:
    """Load where people want clips to be cut from the source, by episode and clip.

    Each episode gets only its own: a crop that is moved in one does not cut the others again.
    """
    crops = read_item_decisions(workspace.config.decisions).moved_crops()
    by_episode: dict[str, dict[str, CropBox]] = {}
    for name, crop in crops.items():
        by_episode.setdefault(episode_id_of_clip(name), {})[name] = crop
    return by_episode


def load_duplicates_to_keep(workspace: Workspace) -> tuple[str, ...]:
    """Load the clips that people want although they are duplicates, sorted."""
    return read_item_decisions(workspace.config.decisions).duplicates_to_keep()
