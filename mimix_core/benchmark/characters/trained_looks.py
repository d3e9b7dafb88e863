"""Learn from training clips how each character looks, poses and moves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mimix_core.benchmark.characters.cell_features import CellEncoder
from mimix_core.benchmark.characters.figure_copies import (
    PoseIndex,
    TrainingPose,
    index_poses,
    pose_features,
    shifted_poses,
)
from mimix_core.benchmark.characters.look_bank import (
    EncodedFrame,
    LookBank,
    build_look_bank,
    encode_frame,
)
from mimix_core.benchmark.characters.training_clips import MaskedClip, read_training_frames
from mimix_core.benchmark.characters.training_figures import TrainingFrame, paste_figures
from mimix_core.errors import BadInput

_PASTE_SEED = 0


@dataclass(frozen=True)
class TrainedLooks:
    """What videos are compared with. ``motions``: of each character's clips, in ascending order."""

    bank: LookBank
    poses: Mapping[str, PoseIndex]
    motions: Mapping[str, tuple[float, ...]]


def learn_looks(
    clips: Sequence[MaskedClip],
    styles: Mapping[str, str],
    encoder: CellEncoder,
    threads: int,
    on_progress: Callable[[int, str], None],
) -> TrainedLooks:
    """Read the clips and build everything from them. ``on_progress``: clips done, and the next.

    Raises BadInput for fewer than two characters, UnreadableVideo.
    """
    frames: list[TrainingFrame] = []
    motions: dict[str, list[float]] = {}
    for number, clip in enumerate(clips):
        on_progress(number, clip.clip_id)
        read, moves = read_training_frames(clip, threads)
        frames += read
        for name, speed in moves.items():
            motions.setdefault(name, []).append(speed)
    return looks_of_frames(frames, motions, styles, encoder)


def looks_of_frames(
    frames: Sequence[TrainingFrame],
    motions: Mapping[str, Iterable[float]],
    styles: Mapping[str, str],
    encoder: CellEncoder,
) -> TrainedLooks:
    """Build everything from frames of clips; figures pasted into other clips are added here.

    Raises BadInput for fewer than two characters.
    """
    names = sorted({name for frame in frames for name in frame.alphas})
    if len(names) < 2:
        raise BadInput(
            f"{len(names)} character has cutouts, and a figure is compared with at least two",
            where="the cutouts of the training clips",
            fix="Cut out more characters (mimix augment), or do not score characters.",
        )
    encoded = [encode_frame(frame, encoder) for frame in frames]
    pasted = [encode_frame(frame, encoder) for frame in paste_figures(frames, _PASTE_SEED)]
    return TrainedLooks(
        bank=build_look_bank([*encoded, *pasted], styles),
        poses=index_poses(_poses(encoded)),
        motions={name: tuple(sorted(speeds)) for name, speeds in motions.items()},
    )


def _poses(frames: Sequence[EncodedFrame]) -> dict[str, list[TrainingPose]]:
    poses: dict[str, list[TrainingPose]] = {}
    for frame in frames:
        for name, window in frame.boxes.items():
            pose = TrainingPose(
                frame.source.clip_id,
                frame.source.frame,
                pose_features(frame.cells_YXD, window),
                shifted_poses(frame.cells_YXD, window),
            )
            poses.setdefault(name, []).append(pose)
    return poses
