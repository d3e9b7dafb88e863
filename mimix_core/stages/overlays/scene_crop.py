"""Choose the crop rectangle of a scene, and say which text remains in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from mimix_core.engine.limit_text import format_beside_limit
from mimix_core.media import Rect
from mimix_core.settings import OverlaySettings
from mimix_core.stages.overlays.persistent_text import SampledFrame, crop_above_text
from mimix_core.stages.overlays.remaining_text import (
    boxes_inside,
    covered_share,
    crop_around_text,
    describe_position,
)
from mimix_core.stages.overlays.text_detection import PixelBox, is_column
from mimix_core.tables import Reason

SampleText = tuple[SampledFrame, Sequence[PixelBox], Sequence[PixelBox], Sequence[PixelBox]]
"""A sampled frame, and of its boxes the overlay's, the fixed and the moving recurring ones."""


@dataclass(frozen=True)
class SceneCrop:
    """A scene's crop rectangle.

    ``remaining``: the text in it, by PTS of the sampled frames. ``text_remains``: the same in
    words. ``rejection``: why the scene is rejected.
    """

    rect: Rect
    remaining: Sequence[tuple[int, Sequence[PixelBox]]]
    text_remains: str
    rejection: tuple[Reason, str] | None


def choose_scene_crop(
    area: Rect,
    subtitles: Sequence[PixelBox],
    samples: Sequence[SampleText],
    everywhere: Sequence[PixelBox],
    height: int,
    settings: OverlaySettings,
) -> SceneCrop:
    """Crop ``area`` (inside the borders) above ``subtitles`` and around recurring text.

    ``samples``: of this scene. ``everywhere``: recurring text that crops all scenes.
    """
    margin = ceil(settings.margin * height)
    above = crop_above_text(area, subtitles, margin)
    loss = 1 - above.height / area.height
    if loss > settings.max_height_loss:
        lost, allowed = format_beside_limit(loss, settings.max_height_loss, ".0%")
        detail = (
            f"cropping the text would remove {lost} of the height, at most {allowed} is allowed"
        )
        return _describe(above, samples, (Reason.CROP_TOO_DEEP, detail))
    crop, rejection = above, None
    if settings.remaining_text == "crop":
        recurring = {box for _, _, fixed, _ in samples for box in fixed} | set(everywhere)
        crop = crop_around_text(above, boxes_inside(recurring, above), margin)
        losses = 1 - crop.width / area.width, 1 - crop.height / area.height
        if max(losses) > settings.max_height_loss:
            side = "width" if losses[0] > losses[1] else "height"
            lost, allowed = format_beside_limit(max(losses), settings.max_height_loss, ".0%")
            rejection = f"cropping it would remove {lost} of the {side}, at most {allowed} is "
            rejection += "allowed"
            crop = above
    described = _describe(crop, samples, None)
    if rejection is None:
        rejection = _reject_remaining(crop, samples, settings)
    if rejection is None or not described.remaining:
        return described
    detail = f"{described.text_remains}; {rejection}"
    return _describe(crop, samples, (Reason.TEXT_REMAINS, detail))


def _reject_remaining(
    crop: Rect, samples: Sequence[SampleText], settings: OverlaySettings
) -> str | None:
    """Return why a scene is rejected for the text that remains after cropping."""
    visible = [boxes for _, boxes in _remaining(crop, samples)]
    if settings.remaining_text == "keep" or not visible:
        return None
    if settings.remaining_text == "reject":
        return "overlays.remaining_text is reject"
    if any(boxes_inside(moving, crop) for _, _, _, moving in samples):
        return "it recurs over the episode at changing positions and cannot be cropped"
    share = sum(covered_share(boxes, crop) for boxes in visible) / len(samples)
    if share > settings.max_text_share:
        shown, allowed = format_beside_limit(share, settings.max_text_share, ".1%")
        return f"{shown} of the image is text, {allowed} allowed"
    return None


def _describe(
    crop: Rect, samples: Sequence[SampleText], rejection: tuple[Reason, str] | None
) -> SceneCrop:
    remaining = _remaining(crop, samples)
    if not remaining:
        return SceneCrop(crop, [], "", rejection)
    places = Counter(describe_position(box, crop) for _, boxes in remaining for box in boxes)
    common = " and ".join(place for place, _ in places.most_common(2))
    largest = max(covered_share(boxes, crop) for _, boxes in remaining)
    words = (
        f"text at the {common}, on up to {largest:.1%} of the image, in {len(remaining)} of "
        f"{len(samples)} sampled frames"
    )
    return SceneCrop(crop, remaining, words, rejection)


def _remaining(crop: Rect, samples: Sequence[SampleText]) -> list[tuple[int, Sequence[PixelBox]]]:
    """Return the text inside of the crop, by PTS, of the frames that have any."""
    remaining: list[tuple[int, Sequence[PixelBox]]] = []
    for sample, overlay, fixed, moving in samples:
        columns = [box for box in sample.other_boxes if is_column(box)]
        text = {*sample.lines, *columns, *overlay, *fixed, *moving}
        inside = boxes_inside(sorted(text), crop)
        if inside:
            remaining.append((sample.pts, inside))
    return remaining
