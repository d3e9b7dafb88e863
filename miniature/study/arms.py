"""The arms of the study, and a settings file for each arm and seed.

All settings files of a project share its workspace, so what arms have in common (episodes, clips,
captions, masks, composites, latents) is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mimix_core.benchmark.promptsets.prompt_generator import prompts_to_yaml
from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from miniature import miniature_wan
from miniature.crossovers import MEETINGS, RENDERS
from miniature.distillation import STEPS
from miniature.scenes import FRAMES, HEIGHT, WIDTH
from miniature.sizes import FLOW_SHIFT
from miniature.study.prompts import HELD_OUT_PAIRS, StudyPrompt, fewer_prompts, prompt_file

DISTILLED = "few-steps.safetensors"
"""The adapter of ``miniature.distillation`` in a project."""
RENDERED_SHARE = "0.22"
"""Share of composites that are rendered; each arm takes its part of them."""


@dataclass(frozen=True)
class Arm:
    """One condition. ``share``: of composites in the dataset. ``variant``: tags of the captions.

    ``same_style``: the control in which pasted characters stay in scenes of their own style.
    ``crossovers``: a kind of ``miniature.crossovers``, whose films are added to the episodes.
    ``segmenter``: the backend of cutouts. ``region_weight``: of the loss that looks at characters.
    ``start_strength``: of cutouts in the noise that videos start from. ``epochs``: of a shorter
    training, else as all others; then only every ``CHECKPOINT_EVERY``-th prompt is generated.
    ``excluded``: a character that no sample shows. ``added_to``: the arm to whose adapter the
    character that it excludes is added, with ``replay_share`` of the other samples and a bound on
    what the others forget, if any. ``few_steps``: so many steps without guidance, ``distilled``:
    with the adapter of ``miniature.distillation``. ``routed_tokens``: the share of tokens that
    skips the middle blocks in training. ``length``: how many times as many epochs as all others.
    """

    name: str
    share: str
    variant: str = "both"
    same_style: bool = False
    crossovers: str = ""
    segmenter: str = "masks"
    region_weight: float = 0.0
    start_strength: float = 0.0
    epochs: int | None = None
    excluded: str = ""
    added_to: str = ""
    replay_share: str = "0"
    max_forgetting: float | None = None
    few_steps: int = 0
    distilled: bool = False
    routed_tokens: float = 0.0
    length: float = 1.0


CHECKPOINT_EVERY = 4
VALIDATION_INTERVAL = 200

ADDED = "Gil"
"""The character that is added to an adapter of the other seven; it has no look-alike."""

ARMS = (
    Arm("composites-0", "0"),
    Arm("composites-5", "0.05"),
    Arm("composites-10", "0.10"),
    Arm("composites-20", "0.20"),
    Arm("no-tags", "0.10", variant="no-tags"),
    Arm("character-tag", "0.10", variant="character"),
    Arm("scene-style-tag", "0.10", variant="scene-style"),
    Arm("same-style-composites", "0.10", same_style=True),
    # As many true joint scenes as composites at 10 %.
    Arm("joint-renders", "0", crossovers=RENDERS),
    Arm("joint-meetings", "0", crossovers=MEETINGS),
    Arm("own-segmenter", "0.10", segmenter="grabcut"),
    Arm("region-10", "0.10", region_weight=1.0),
    # The adapter of composites-10, and other noise.
    Arm("cutout-start-50", "0.10", start_strength=0.5),
    Arm("cutout-start-100", "0.10", start_strength=1.0),
    # The adapter and the noise of composites-10.
    Arm("few-steps", "0.10", few_steps=STEPS),
    Arm("few-steps-distilled", "0.10", few_steps=STEPS, distilled=True),
    # Half of the tokens skip 5 of the 8 blocks, so a step has 0.664 of the FLOPs: as many steps as
    # composites-10, and nearly as many FLOPs.
    Arm("routed-50", "0.10", routed_tokens=0.5),
    Arm("routed-50-longer", "0.10", routed_tokens=0.5, length=1.5),
    # The rate is constant, so a shorter training is a checkpoint of the arm with 10 %.
    Arm("checkpoint-1", "0.10", epochs=1),
    Arm("checkpoint-2", "0.10", epochs=2),
    Arm("checkpoint-5", "0.10", epochs=5),
    Arm("checkpoint-11", "0.10", epochs=11),
    # Training all again is composites-10.
    Arm("seven-of-eight", "0.10", excluded=ADDED),
    Arm(
        "eighth-added",
        "0.10",
        added_to="seven-of-eight",
        replay_share="0.25",
        max_forgetting=0.05,
    ),
    Arm("eighth-unreplayed", "0.10", added_to="seven-of-eight"),
)


@dataclass(frozen=True)
class Training:
    """What all arms have in common. ``epochs`` and ``learning_rate``: docs/miniature.md."""

    epochs: int = 24
    learning_rate: float = 2e-3
    global_batch_size: int = 64
    micro_batch_size: int = 64
    validation_quantiles: int = 9
    steps: int = 25
    guidance: float = 4.0


@dataclass(frozen=True)
class Place:
    """A project of ``miniature.episodes``, the folder for settings in it, and how it is run."""

    project: Path
    settings_folder: str = "arms"
    max_workers: int = 2


def write_settings(
    place: Place,
    model: Path,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    training: Training,
    prompts: Sequence[StudyPrompt],
) -> dict[tuple[str, int], Path]:
    """Write ``<arm>-<seed>.yaml`` for each arm and seed, and the prompts beside them.

    ``model``: the folder that ``miniature.unpack_weights`` wrote. Returns each file by arm and
    seed. Of an arm that adds a character the settings of training all again are written
    (``all_again``); its own are written after the arm that it starts from has run. Raises
    BadInput if the films or the distilled adapter of an arm are missing.
    """
    project = yaml.safe_load((place.project / "mimix.yaml").read_text())
    out = place.project / place.settings_folder
    out.mkdir(exist_ok=True)
    files = {}
    written: set[Path] = set()
    for arm in arms:
        library = place.project / (
            f"library-{arm.crossovers}.yaml" if arm.crossovers else "library.yaml"
        )
        if not library.exists():
            raise BadInput(
                f"the arm {arm.name} needs {library}",
                fix=f"Run `python -m miniature.crossovers {place.project}` first.",
            )
        distilled = place.project / DISTILLED
        if arm.distilled and not distilled.exists():
            raise BadInput(
                f"the arm {arm.name} needs {distilled}",
                fix=f"Run `python -m miniature.distillation {distilled}` first.",
            )
        prompts_file = out / ("prompts.yaml" if arm.epochs is None else "prompts-fewer.yaml")
        if prompts_file not in written:
            prompts_file.write_text(prompts_to_yaml(prompt_file(arm_prompts(arm, prompts))))
            written.add(prompts_file)
        for seed in seeds:
            settings = _merged(project, _arm_settings(arm, seed, training))
            settings |= {
                "library": str(library),
                "workspace": str(place.project / "workspace"),
                "backbone": {"name": miniature_wan.BACKBONE.name, "path": str(model)},
                "run": {"max_workers": place.max_workers},
            }
            settings["samples"]["prompts"] = str(prompts_file)
            if arm.distilled:
                settings["samples"]["adapters"] = [{"path": str(distilled)}]
            path = out / f"{arm.name}-{seed}.yaml"
            written_to = all_again(path) if arm.added_to else path
            written_to.write_text(yaml.safe_dump(settings, sort_keys=False))
            files[arm.name, seed] = path
    return files


def all_again(path: Path) -> Path:
    """Return the settings of training all again, which those of an arm that adds are made from."""
    return path.with_name(f"{path.stem}-all{path.suffix}")


def arm_prompts(arm: Arm, prompts: Sequence[StudyPrompt]) -> list[StudyPrompt]:
    """Return the prompts that an arm's videos are generated from."""
    return list(prompts) if arm.epochs is None else fewer_prompts(prompts, CHECKPOINT_EVERY)


def _arm_settings(arm: Arm, seed: int, training: Training) -> dict[str, Any]:
    region = {"region_weight": arm.region_weight} if arm.region_weight else {}
    excluded = {"excluded_characters": [arm.excluded]} if arm.excluded else {}
    start = {"start": "cutouts", "start_strength": arm.start_strength} if arm.start_strength else {}
    routed = {"routed_tokens": arm.routed_tokens} if arm.routed_tokens else {}
    few = {"num_inference_steps": arm.few_steps, "guidance_scale": 1.0, "solver": "euler"}
    return {
        "composites": {
            "ratio": RENDERED_SHARE,
            "same_style_share": "1" if arm.same_style else "0",
            "min_ground": 0,  # the ground of a drawn scene is where its figures stand
            "held_out_pairs": [list(pair) for pair in HELD_OUT_PAIRS],
        },
        "cutouts": {"backend": arm.segmenter},
        "dataset": {"ratio": arm.share, **excluded},
        "embeddings": {"variant": arm.variant},
        "lora": {
            "rank": 32,
            "alpha": 32,
            "epochs": round(arm.length * training.epochs) if arm.epochs is None else arm.epochs,
            "global_batch_size": training.global_batch_size,
            "micro_batch_size": training.micro_batch_size,
            "learning_rate": training.learning_rate,
            "shift": FLOW_SHIFT,
            "zero_stage": 0,
            "checkpoint_interval": 200,
            "validation_interval": VALIDATION_INTERVAL,
            "validation_quantiles": training.validation_quantiles,
            "seed": seed,
            **region,
            **routed,
            **_longer(arm),
        },
        "samples": {
            # The same noise in every arm of a seed.
            "seed": seed,
            "variant": arm.variant,
            "negative_prompt": "",
            "width": WIDTH,
            "height": HEIGHT,
            "num_frames": FRAMES,
            "num_inference_steps": training.steps,
            "guidance_scale": training.guidance,
            "batched_guidance": True,
            "compile": "off",  # 8 small blocks, loaded again for every 8 prompts
            "shift": FLOW_SHIFT,
            **start,
            **(few if arm.few_steps else {}),
        },
    }


def _longer(arm: Arm) -> dict[str, Any]:
    """Return the settings with which a longer training validates the same samples as often."""
    if arm.length == 1:
        return {}
    share = LoraSettings().validation_share
    assert share is not None
    return {
        "validation_interval": round(arm.length * VALIDATION_INTERVAL),
        "validation_share": share / arm.length,
    }


def _merged(project: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the project's settings with the keys of ``more`` set in each section."""
    return {
        **project,
        **{name: {**project.get(name, {}), **section} for name, section in more.items()},
    }
