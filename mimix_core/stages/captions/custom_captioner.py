"""Run a captioner from outside MiMix (docs/extending/captioner.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mimix_core.domain.caption_grammar import Caption
from mimix_core.domain.library import Style
from mimix_core.engine.extensions import load_extension
from mimix_core.errors import BadInput
from mimix_core.stages.captions.caption_rows import caption_columns, row_with_reason
from mimix_core.stages.captions.caption_validation import CaptionRules, find_caption_problems
from mimix_core.tables import ClipRow, Reason, Row


@dataclass(frozen=True)
class ClipToCaption:
    """All that a captioner is given about one clip.

    ``video`` is the clip's mp4 file: ``row["frames"]`` frames at ``row["rate_num"]`` per
    second, 81 at 16 by default.
    ``dialogue``: what is said, a line each, as `Tom says: Hello` where the speaker is known.
    ``roster`` are the names that the caption may use, ``style`` is that of the show. ``row`` is the
    clip's row (times, measures).
    """

    video: Path
    dialogue: str
    roster: tuple[str, ...]
    style: Style
    row: ClipRow


CaptionFunction = Callable[[ClipToCaption], Caption | None]


@dataclass(frozen=True)
class Captioner:
    """A captioner from outside MiMix; ``name`` is the dotted name of its module.

    ``build`` loads what it needs and returns a function from clip to caption; None when no
    character of the roster is in the clip.
    """

    name: str
    build: Callable[[], CaptionFunction]


def load_captioner(module: str) -> Captioner:
    """Import a captioner. Raises BadInput when the module does not define one of its name."""
    captioner = load_extension(module, "CAPTIONER", Captioner, setting="captions.backend")
    if captioner.name != module:
        raise BadInput(
            f"the captioner of module {module} is named {captioner.name}",
            where="settings, key captions.backend",
            fix="Give it the dotted name of its module.",
        )
    return captioner


def custom_caption_row(
    name: str, caption_clip: CaptionFunction, clip: ClipToCaption, rules: CaptionRules
) -> Row:
    """Caption one clip and validate the caption like any other."""
    clip_id = clip.row["clip_id"]
    caption = caption_clip(clip)
    values = caption_columns(clip_id, name, caption, rules.style)
    if caption is None:
        detail = "the captioner found no character of the show"
        return row_with_reason(Reason.NO_CHARACTER, detail, values)
    problems = find_caption_problems(caption, rules)
    reason = Reason.CAPTION_CHECK_FAILED if problems else None
    return row_with_reason(reason, "; ".join(problems), values)
