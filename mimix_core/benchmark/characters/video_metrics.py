"""Metrics of a video from the scores of its characters, for tables, charts and the studio."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mimix_core.benchmark.characters.character_verdicts import Identity
from mimix_core.tables import CharacterScoreRow, Status

IDENTITY_METRIC, STYLE_METRIC = "character_identity", "character_style"
"""Share of the asked-for characters that are themselves; and that are so in their own style."""


def video_metrics(
    rows: Iterable[CharacterScoreRow],
) -> Iterator[tuple[str, str, float | None, str]]:
    """Yield (video id, metric, value, why there is none) of each video.

    A value needs all of a video's characters: one without a cutout makes it missing.
    """
    videos: dict[str, list[CharacterScoreRow]] = {}
    for row in rows:
        videos.setdefault(row["video_id"], []).append(row)
    for video_id, own in videos.items():
        backend = own[0]["backend"].replace("/", "-")
        missing = [row for row in own if row["status"] != Status.OK]
        right = [row for row in own if row["identity"] == Identity.RIGHT]
        styled = [row for row in right if row["in_own_style"] is not False]
        for metric, found in ((IDENTITY_METRIC, right), (STYLE_METRIC, styled)):
            name = f"{metric}/{backend}"
            if missing:
                yield video_id, name, None, str(missing[0]["reason"]).replace("_", " ")
            else:
                yield video_id, name, len(found) / len(own), ""
