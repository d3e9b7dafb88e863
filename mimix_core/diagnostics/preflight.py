"""Check everything that a command needs before it starts any work, in one place.

Every flow runs ``check_before_run``, from the command line and from a deployment alike. A check
that concerns a later phase belongs here: otherwise its error comes after hours of computation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mimix_core.characters.voice_bank import read_voice
from mimix_core.characters.voice_encoders import load_voice_encoder
from mimix_core.diagnostics.model_requirements import required_models
from mimix_core.domain.library import load_library
from mimix_core.domain.prompts import load_prompts
from mimix_core.engine.flow_phases import phases_of_flow
from mimix_core.engine.stage import Phase
from mimix_core.errors import BadInput
from mimix_core.networks.sam3_folder import WEIGHTS, check_sam3_folder
from mimix_core.settings import Config
from mimix_core.training import trackers
from mimix_core.training.stage import check_levels
from mimix_core.wan.backbone_stage import resolve_weights_folder
from mimix_core.wan.expected_tensors import expected_tensors
from mimix_core.wan.frozen_weights import check_frozen_weights
from mimix_core.wan.generation import architecture_settings
from mimix_core.wan.generation.video_split import plan_split
from mimix_core.wan.generation_adapters import read_any_adapter
from mimix_core.wan.model_folder import check_backbone_folder
from mimix_core.wan.model_registry import Backbone, get_backbone
from mimix_core.wan.token_routing import check_token_routing


def check_before_run(config: Config, flow_name: str) -> None:
    """Raise BadInput with one message that lists everything the flow could not run with."""
    problems = list(find_problems(config, flow_name))
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise BadInput("\n".join(str(problem) for problem in problems))


def find_problems(
    config: Config, flow_name: str, *, with_models: bool = True
) -> Iterator[BadInput]:
    """Find what each phase of the flow could not run with; optionally without missing models.

    A problem that stops several checks, such as an unreadable library, is found once.
    """
    found = set()
    for model in required_models(config, flow_name) if with_models else ():
        if not model.available:
            yield BadInput(model.describe_missing())
    for phase in phases_of_flow(flow_name):
        for check in _CHECKS.get(phase, ()):
            try:
                check(config)
            except BadInput as problem:
                if str(problem) not in found:
                    found.add(str(problem))
                    yield problem


def _check_voices(config: Config) -> None:
    """Check the recordings of voices and the speaker model; a missing one is listed elsewhere."""
    settings = config.voices
    if settings.backend == "none":
        return
    present = settings.weights is not None and settings.weights.is_file()
    if settings.backend != "wespeaker" or present:
        load_voice_encoder(settings.backend, settings.weights)
    library = load_library(config.library, language=config.transcripts.language)
    for character in library.characters():
        for path in character.voices:
            read_voice(path)


def _check_held_out_pairs(config: Config) -> None:
    """Check that the pairs to keep apart name two characters of the library."""
    names = {
        character.name
        for character in load_library(
            config.library, language=config.transcripts.language
        ).characters()
    }
    for pair in config.composites.held_out_pairs:
        unknown = [name for name in pair if name not in names]
        if unknown or len(set(pair)) < 2:
            what = f"no character is named {unknown[0]!r}" if unknown else "names one twice"
            raise BadInput(
                f"the pair {' and '.join(pair)}: {what}",
                where="settings, key composites.held_out_pairs",
                fix=f"The library has {', '.join(sorted(names))}.",
            )


def _check_sam3_folders(config: Config) -> None:
    """Check the folders of SAM 3; one without weights is listed as a missing model."""
    cutouts = config.cutouts
    folders = {}
    if cutouts.backend == "sam3":
        folders["cutouts.weights"] = cutouts.weights
    if "sam3" in (cutouts.locator_cartoon, cutouts.locator_realistic):
        folders["cutouts.sam3_locator.weights"] = cutouts.sam3_locator.weights
    for key, folder in folders.items():
        if folder is not None and (folder / WEIGHTS).exists():
            check_sam3_folder(folder, key)


def _check_dataset_characters(config: Config) -> None:
    """Check that excluded and new characters are those of the library."""
    known = {
        character.name
        for character in load_library(
            config.library, language=config.transcripts.language
        ).characters()
    }
    for key in ("excluded_characters", "new_characters"):
        for name in getattr(config.dataset, key):
            if name not in known:
                raise BadInput(
                    f"no character is named {name!r}",
                    where=f"settings, key dataset.{key}",
                    fix=f"The library has {', '.join(sorted(known))}.",
                )


def _check_added_characters(config: Config) -> None:
    """Check that what adds characters to an adapter is set as a whole."""
    lora = config.lora
    given = {"initial_adapter": lora.initial_adapter}
    if get_backbone(config.backbone.name).experts:
        both = {
            "high-noise": ("initial_adapter", lora.initial_adapter),
            "low-noise": ("initial_adapter_low_noise", lora.initial_adapter_low_noise),
        }
        given = dict(both[name] for name in lora.experts)
    missing_keys = [f"lora.{key}" for key, path in given.items() if path is None]
    if config.dataset.new_characters and missing_keys:
        raise BadInput(
            "characters are added, but the adapter to add them to is not given",
            where="settings, key dataset.new_characters",
            fix=f"Set {' and '.join(missing_keys)}, or train on all characters without "
            "new_characters.",
        )
    if config.lora.max_forgetting is None:
        return
    for missing, fix in (
        (not config.dataset.new_characters, "Name the added characters in dataset.new_characters"),
        (config.dataset.val_share == 0, "Set dataset.val_share above 0"),
    ):
        if missing:
            raise BadInput(
                "forgetting is limited, but nothing measures it",
                where="settings, key lora.max_forgetting",
                fix=f"{fix}, or leave out the bound.",
            )


def _check_backbone(config: Config) -> None:
    """Check the folder of the published weights, and that they have the layers to adapt."""
    backbone, path = get_backbone(config.backbone.name), config.backbone.path
    if backbone.folder_command() is not None and not (
        path and (path / "model_index.json").exists()
    ):
        return  # listed as a missing model
    folder = resolve_weights_folder(config.backbone)
    if folder is None:
        return
    tensors = check_backbone_folder(folder, backbone)["transformer"]
    for target in config.lora.target_modules or backbone.lora_targets:
        name = f"{target}.weight"
        if name not in tensors and not any(tensor.endswith(f".{name}") for tensor in tensors):
            raise BadInput(
                f"the transformer has no layer {target}",
                where="settings, key lora.target_modules",
                fix="Name linear layers as diffusers does, or leave the list empty ([]) for those "
                f"of {backbone.name}: {', '.join(backbone.lora_targets)}.",
            )


def _check_show_repeats(config: Config) -> None:
    """Check that the shows whose clips are repeated are those of the library."""
    if not config.lora.show_repeats:
        return
    library = load_library(config.library, language=config.transcripts.language)
    known = [show.id for show in library.shows]
    unknown = sorted(config.lora.show_repeats.keys() - set(known))
    if unknown:
        raise BadInput(
            f"no show has the id {unknown[0]!r}",
            where="settings, key lora.show_repeats",
            fix=f"The library has {', '.join(sorted(known))}.",
        )


def _check_initial_adapters(config: Config) -> None:
    """Check that adapters to start from can be read, and fit the settings and the backbone."""
    experts = get_backbone(config.backbone.name).experts
    first = experts[0].name if experts else None
    lora = config.lora
    for path, expert in (
        (lora.initial_adapter, first),
        (lora.initial_adapter_low_noise, "low-noise"),
    ):
        if path is not None:
            _check_initial_adapter(config, path, expert)


def _check_initial_adapter(config: Config, path: Path, expert: str | None) -> None:
    from mimix_core.training import initial_adapter

    _, metadata = initial_adapter.read_initial_adapter(path)
    if metadata is not None and metadata.expert != expert:
        raise BadInput(
            f"is {_for_expert(metadata.expert)}, not {_for_expert(expert)}",
            where=str(path),
            fix="Start from an adapter of the same transformer.",
        )
    backbone = get_backbone(config.backbone.name)
    network = backbone.transformer
    try:
        shapes = expected_tensors(network.class_name, network.config)
    except (KeyError, TypeError, ValueError):
        shapes = None
    if shapes is None:
        return  # Its layers are known only from its weights; the training compares them.
    targets = config.lora.target_modules or backbone.lora_targets
    initial_adapter.check_initial_adapter(path, config.lora, targets, shapes)


def _for_expert(expert: str | None) -> str:
    return f"for the {expert} expert" if expert else "for a model of one transformer"


def _check_trained_experts(config: Config) -> None:
    """Check that experts are named only for a backbone of two, each with noise levels to draw."""
    backbone, lora = get_backbone(config.backbone.name), config.lora
    defaults = type(lora).model_fields
    named = [
        f"lora.{name}"
        for name in ("experts", "initial_adapter_low_noise")
        if getattr(lora, name) != defaults[name].default
    ]
    _check_has_experts(backbone, named)
    for expert in backbone.experts:
        if expert.name in lora.experts:
            check_levels(lora, expert.levels, "settings, section lora")


def _check_generating_experts(config: Config) -> None:
    samples = config.samples
    named = ["samples.guidance_scale_low_noise"] * (samples.guidance_scale_low_noise is not None)
    named += ["samples.adapters"] * any(adapter.expert for adapter in samples.adapters)
    _check_has_experts(get_backbone(config.backbone.name), named)


def _check_has_experts(backbone: Backbone, named: list[str]) -> None:
    """Raise BadInput for settings of experts with a backbone of one transformer."""
    if named and not backbone.experts:
        raise BadInput(
            f"names an expert, but {backbone.name} has one transformer",
            where=f"settings, key {' and '.join(named)}",
            fix="Leave it out, or set backbone.name to a model of two experts (wan2.2-t2v-a14b).",
        )


def _check_clip_rate(config: Config) -> None:
    architecture_settings.check_clip_rate(config.backbone, config.clips.frame_rate)


def _check_training_sizes(config: Config) -> None:
    """Check that the backbone supports the sizes of latents and previews."""
    backbone = get_backbone(config.backbone.name)
    latents = config.latents
    if latents.width is None or latents.height is None:
        size, where = (config.clips.width, config.clips.height), "clips.width and clips.height"
    else:
        size, where = (latents.width, latents.height), "latents.width and latents.height"
    _check_size(backbone.size_error(config.clips.frames, *size), f"clips.frames, {where}")
    lora = config.lora
    if lora.preview_interval is not None:
        problem = backbone.size_error(
            lora.preview_num_frames, lora.preview_width, lora.preview_height
        )
        _check_size(problem, "lora.preview_num_frames, .preview_width and .preview_height")


def _check_optimizer(config: Config) -> None:
    if config.lora.optimizer == "adamw":
        return
    from mimix_core.training.optimizers import check_optimizer

    check_optimizer(config.lora)


def _check_transformer(config: Config) -> None:
    transformer = get_backbone(config.backbone.name).transformer
    check_frozen_weights(config.lora, transformer.class_name)
    check_token_routing(config.lora, transformer.class_name, transformer.config)


def _check_trackers(config: Config) -> None:
    trackers.check_trackers(config.lora.trackers)


def _check_sample_size(config: Config) -> None:
    samples, backbone = config.samples, get_backbone(config.backbone.name)
    architecture_settings.check_generation_settings(samples, backbone)
    problem = backbone.size_error(samples.num_frames, samples.width, samples.height)
    _check_size(problem, "samples.num_frames, .width and .height")


def _check_video_split(config: Config) -> None:
    plan_split(config.samples, get_backbone(config.backbone.name))


def _check_adapters(config: Config) -> None:
    """Check that every adapter to generate with can be read, is finite and fits the backbone.

    Raises BadInput with the problem of each adapter, and for a DoRA that is not used by itself.
    """
    if config.lora.use_dora and (config.samples.adapters or config.samples.adapter_weight != 1):
        raise BadInput(
            "a DoRA cannot be added to other adapters, nor used at another strength than 1",
            where="settings, keys samples.adapters and samples.adapter_weight",
            fix="Leave them out, or train without lora.use_dora.",
        )
    backbone = get_backbone(config.backbone.name)
    problems = []
    for adapter in config.samples.adapters:
        try:
            read_any_adapter(adapter.path, backbone, expert=adapter.expert)
        except BadInput as problem:
            problems.append(problem)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise BadInput("\n".join(map(str, problems)))


def _check_size(problem: str | None, keys: str) -> None:
    if problem is not None:
        raise BadInput(problem, where=f"settings, keys {keys}")


def _check_prompts(config: Config) -> None:
    path = prompts_file(config)
    library = load_library(config.library, language=config.transcripts.language)
    load_prompts(path, [character.name for character in library.characters()])


def prompts_file(config: Config) -> Path:
    """Return the file of the prompts to generate from. Raises BadInput if there is none."""
    path = config.samples.prompts
    if path is None:
        raise BadInput(
            "no prompts to generate from",
            where="settings, key samples.prompts",
            fix="Set it to the path of a prompts file (`mimix bench prompts` writes one).",
        )
    if not path.is_file():
        raise BadInput(
            f"no file {path}",
            where="settings, key samples.prompts",
            fix="Correct the path, or write the file with `mimix bench prompts`.",
        )
    return path


_CHECKS: dict[Phase, tuple[Callable[[Config], None], ...]] = {
    Phase.CURATION: (_check_voices,),
    Phase.AUGMENTATION: (
        _check_held_out_pairs,
        _check_sam3_folders,
        _check_dataset_characters,
    ),
    Phase.TRAINING: (
        _check_backbone,
        _check_clip_rate,
        _check_initial_adapters,
        _check_added_characters,
        _check_trained_experts,
        _check_optimizer,
        _check_transformer,
        _check_show_repeats,
        _check_training_sizes,
        _check_trackers,
    ),
    Phase.GENERATION: (
        _check_clip_rate,
        _check_sample_size,
        _check_video_split,
        _check_prompts,
        _check_generating_experts,
        _check_adapters,
    ),
}
"""The checks of each phase, in addition to the models that it requires."""
