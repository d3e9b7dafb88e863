"""Find edited captions in exported files, for ``mimix captions import``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mimix_core.domain.caption_grammar import parse_caption, render_caption, resolve_aliases
from mimix_core.domain.character_names import alias_map
from mimix_core.domain.ids import episode_id_of_clip
from mimix_core.errors import BadInput
from mimix_core.project.workspace import SourceEpisode
from mimix_core.stages.captions import import_export
from mimix_core.tables import CaptionRow


def find_edited(source: Path, current: Mapping[str, CaptionRow]) -> dict[str, str]:
    """Find edited captions in an exported file or folder. Raises BadInput if there is neither."""
    jsonl = source / import_export.JSONL_NAME if source.is_dir() else source
    sidecars = import_export.read_caption_sidecars(source) if source.is_dir() else {}
    if jsonl.is_file() and sidecars:
        raise BadInput(
            f"contains both {import_export.JSONL_NAME} and .txt files",
            where=str(source),
            fix=f"Name {import_export.JSONL_NAME} itself, or move it out of the folder",
        )
    captions = import_export.read_captions_jsonl(jsonl) if jsonl.is_file() else []
    if captions:
        return import_export.find_edited_captions(current, captions)
    if sidecars:
        return import_export.find_edited_sidecars(current, sidecars)
    raise BadInput("contains no exported captions", where=str(source))


def replace_aliases(edited: Mapping[str, str], episodes: Sequence[SourceEpisode]) -> dict[str, str]:
    """Write the characters' names in place of aliases in the tags of edited captions."""
    shows = {episode.id: episode.show for episode in episodes}
    resolved = {}
    for clip_id, text in edited.items():
        show = shows.get(episode_id_of_clip(clip_id))
        if text and show is not None:
            names = alias_map(show.roster(), show.aliases())
            resolved[clip_id] = render_caption(resolve_aliases(parse_caption(text), names))
        else:
            resolved[clip_id] = text
    return resolved
