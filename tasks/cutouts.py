"""Task ``cutouts``: cut the characters out of every clip."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mimix_core.domain.character import Character
from mimix_core.domain.character_names import alias_map
from mimix_core.domain.library import Show, Style
from mimix_core.engine.artifacts import FileRef, TableRef
from mimix_core.engine.extensions import extension_source, is_module_name
from mimix_core.errors import BadInput, MissingModel
from mimix_core.project.named_tracks import named_exemplars
from mimix_core.project.workspace import Workspace
from mimix_core.settings import CutoutSettings
from mimix_core.settings.locator_settings import choose_locator
from mimix_core.stages.cutouts.backends.episode_masks import read_mask_names
from mimix_core.stages.cutouts.locate import (
    CharacterReference,
    CustomLocatorInputs,
    EmbeddingLocatorInputs,
    FaceLocatorInputs,
    LocatorInputs,
    Sam3LocatorInputs,
    VlmLocatorInputs,
    read_box_names,
)
from mimix_core.stages.cutouts.locate.face_encoder import face_model_paths
from mimix_core.stages.cutouts.stage import CutoutInputs, captioned_characters
from tasks.base import Run, stage_task
from tasks.prefect_secrets import load_api_key

cutouts_task = stage_task("cutouts")


def cut_out_characters(
    run: Run, clips: Sequence[TableRef], captions: Sequence[TableRef]
) -> list[TableRef]:
    """Cut out characters; one table per episode, in the library's order."""
    settings = run.workspace.config.cutouts
    load_locator_key(settings)
    weights = run.workspace.file_ref(settings.weights, "cutouts.weights")
    uses_masks = settings.backend == "masks"
    if uses_masks and not any(e.masks for e in run.workspace.episodes):
        raise BadInput(
            "cutouts.backend is masks, and no episode has a masks file",
            where=str(run.workspace.config.library),
            fix="Put VIDEO.masks.zip next to the videos (docs/scripts-and-boxes.md), or choose "
            "another backend.",
        )
    inputs = []
    for e, clip_table, caption_table in zip(run.workspace.episodes, clips, captions, strict=True):
        names = alias_map(e.show.roster(), e.show.aliases())
        captioned = captioned_characters(caption_table)
        acting = {name for characters in captioned.values() for name in characters}
        # Composites leave crossovers out, so nobody has to be located in them.
        boxes = None if e.show.guests else e.boxes
        masks = e.masks if uses_masks and not e.show.guests else None
        inputs.append(
            CutoutInputs(
                unit=e.name,
                roster=e.show.roster(),
                aliases=e.show.aliases(),
                clips=clip_table,
                captions=caption_table,
                captioned=captioned,
                box_names=read_box_names(e.boxes, names),
                boxes=boxes,
                # None if the episode has boxes: the locator is not used and not part of the key.
                locator=None
                if e.boxes is not None or e.show.guests
                else build_locator_inputs(run.workspace, e.show, acting),
                weights=weights,
                masks=masks,
                mask_names=read_mask_names(e.masks if uses_masks else None, names),
            )
        )
    return run.run_units(cutouts_task, inputs, settings.effective())


def load_locator_key(settings: CutoutSettings) -> None:
    """Load the API key of a locator model before any work. Raises BadInput without one."""
    if "vlm" in (settings.locator_cartoon, settings.locator_realistic):
        load_api_key(settings.vlm.vlm, settings.vlm.vlm_secret, "cutouts.vlm.vlm_secret")


def show_locator(
    settings: CutoutSettings, show: Show, named: Mapping[str, Sequence[Path]] | None = None
) -> str:
    """Return the locator of a show's episodes without a boxes file.

    ``named``: the exemplars of named tracks by character, which count like reference images.
    """
    realistic = show.style is not Style.CARTOON
    return choose_locator(
        settings.locator_realistic if realistic else settings.locator_cartoon,
        realistic=realistic,
        has_references=any(character.references for character in show.characters)
        or any((named or {}).values()),
    )


def build_locator_inputs(
    workspace: Workspace, show: Show, names: Collection[str]
) -> LocatorInputs | None:
    """Build the inputs of the locator for a show's style; None if the locator is ``boxes``.

    ``names``: the characters that the episode's captions name. Others are not located, and a
    character added to the show must not change the episodes without it. None also if there are no
    names. Raises MissingModel if the locator's models are not installed.
    """
    settings = workspace.config.cutouts
    config = workspace.config
    exemplars = named_exemplars(config.decisions, config.workspace, show.id)
    name = show_locator(settings, show, exemplars)
    if name == "boxes" or not names:
        return None
    # Only these locators compare whole figures on this machine: a face has other references, and
    # another picture in a request to a model would be paid again.
    named = exemplars if name in ("embedding", "sam3") else {}
    characters = tuple(
        CharacterReference(
            name=character.name,
            noun=character_noun(show, character) if name == "sam3" else "",
            description=character.description if name == "vlm" or is_module_name(name) else "",
            references=tuple(
                workspace.store.source_ref(path)
                for path in (*character.references, *named.get(character.name, ()))
            ),
        )
        for character in show.characters
        if character.name in names
    )
    if is_module_name(name):
        source = extension_source(name)
        return CustomLocatorInputs(
            characters=characters,
            module=name,
            source=None if source is None else workspace.store.source_ref(source),
        )
    if name == "face":
        landmarks, network = (workspace.store.source_ref(path) for path in face_model_paths())
        return FaceLocatorInputs(
            characters=characters, settings=settings.face, landmarks=landmarks, network=network
        )
    if name == "embedding":
        return EmbeddingLocatorInputs(characters=characters, settings=settings.embedding)
    if name == "sam3":
        return Sam3LocatorInputs(
            characters=characters,
            settings=settings.sam3_locator,
            weights=_sam3_weights(workspace),
        )
    return VlmLocatorInputs(
        characters=characters,
        settings=settings.vlm,
        response_cache=workspace.config.workspace / "answers",
    )


def character_noun(show: Show, character: Character) -> str:
    """Return what a character is, as the locator ``sam3`` searches for it."""
    if character.noun:
        return character.noun
    return "cartoon character" if show.style is Style.CARTOON else "person"


def _sam3_weights(workspace: Workspace) -> FileRef:
    key = "cutouts.sam3_locator.weights"
    weights = workspace.file_ref(workspace.config.cutouts.sam3_locator.weights, key)
    if weights is None:
        raise MissingModel(
            "the locator 'sam3' needs the folder of facebook/sam3",
            where=f"settings, key {key}",
            fix="mimix models says how to get it (docs/locating.md).",
        )
    return weights
