"""Define the tables of generated videos, their scores and the report."""

from __future__ import annotations

from mimix_core.tables.rows import BaseRow, table


class SampleRow(BaseRow):
    """One row of the table ``samples``."""

    prompt_id: str
    category: str
    prompt: str
    characters: list[str]
    backbone: str
    seed: int
    file: str
    sha256: str
    frames: int
    width: int
    height: int


SAMPLES = table("samples", 1, SampleRow, id="prompt_id", parent="prompt_id")


class ScoreRow(BaseRow):
    """One row of the table ``scores``."""

    score_id: str  # video id + metric
    video_id: str
    kind: str  # sample | clip (real footage, for scale)
    metric: str  # dimension/backend, e.g. imaging_quality/brisque
    value: float


SCORES = table("scores", 1, ScoreRow, id="score_id", parent="video_id")


class CharacterScoreRow(BaseRow):
    """One row of the table ``character_scores``: one asked-for character of one video."""

    score_id: str  # video id + character
    video_id: str
    character: str
    style: str  # of the character's own show
    scene_style: str  # asked for
    backend: str  # discriminant/network of the features
    identity: str  # right | swapped | mixed | absent
    looks_like: str  # whose looks it has, for swapped and mixed
    distance: float | None  # of its figure to its own bank; about 1 within one character
    limit: float | None  # distance up to which it is the character
    other: str  # the nearest other character, and its distance
    other_distance: float | None
    in_own_style: bool | None  # None if it is absent, or all shows have one style
    style_share: float | None  # how likely its figure has the character's own style
    count: int  # figures that clearly are this character
    presence: float  # share of the sampled frames that show its figure
    frames: list[int]  # sampled
    boxes: list[list[float]]  # x0, y0, x1, y1 as shares of the frame; empty where not visible
    nearest_clip: str  # of the training, by the character's pose
    nearest_frame: int | None
    copy_similarity: float | None
    copied: bool | None  # nearer to that frame than frames of two clips ever are
    motion: float | None  # its heights a second
    motion_rank: float | None  # share of the character's clips in which it moves less


CHARACTER_SCORES = table("character_scores", 1, CharacterScoreRow, id="score_id", parent="video_id")


class ReportRow(BaseRow):
    """One row of the table ``report``."""

    page: str
    file: str


REPORT = table("report", 1, ReportRow, id="page")
