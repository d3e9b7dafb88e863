"""Captions of every clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mimix_core.domain.library import Show
from mimix_core.engine.artifacts import FileRef, TableRef
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.project.workspace import Workspace
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.caption_inputs import CaptionInputs, CharacterFacts, ShowFacts
from mimix_core.stages.captions.clip_context import episode_id_of
from mimix_core.stages.captions.overrides import read_overrides
from mimix_core.stages.captions.prompt_template import DEFAULT, read_prompt
from tasks.base import Run, stage_task
from tasks.prefect_secrets import load_api_key

captions_task = stage_task("captions")


def caption_clips(
    run: Run, clips: Sequence[TableRef], transcripts: Sequence[TableRef]
) -> list[TableRef]:
    """One table per episode, in the library's order."""
    workspace = run.workspace
    hand, unclaimed = load_caption_overrides(workspace)
    for name in unclaimed:
        run.console.warn(f"captions.overrides: {name} is no clip of any episode of the library")
    told = caption_model_inputs(workspace)
    shows = {show.id: show for show in told.pop("shows", ())}
    inputs = [
        CaptionInputs(
            unit=e.name,
            show_title=e.show.title,
            style=e.show.style,
            roster=e.show.roster(),
            aliases=e.show.aliases(),
            clips=clip_table,
            transcripts=transcript_table,
            script=e.script,
            plot=e.plot,
            hand=hand.get(e.id, {}),
            tokenizer=tokenizer_file(workspace),
            show=shows.get(e.show.id),
            **told,
        )
        for e, clip_table, transcript_table in zip(
            workspace.episodes, clips, transcripts, strict=True
        )
    ]
    tables = run.run_units(captions_task, inputs, workspace.config.captions.effective())
    _warn_about_captions(run, tables)
    return tables


def caption_model_inputs(workspace: Workspace) -> dict[str, Any]:
    """``shows``, ``prompt`` and ``answers`` for the inputs of backend vlm; nothing for a script."""
    settings = workspace.config.captions
    if settings.backend == "script":
        return {}
    return {
        "shows": tuple(build_show_facts(workspace.store, show) for show in workspace.library.shows),
        "prompt": find_prompt_file(workspace),
        "answers": workspace.config.workspace / "answers",
    }


def build_show_facts(store: Store, show: Show) -> ShowFacts:
    """What captioners are told of a show."""
    return ShowFacts(
        id=show.id,
        title=show.title,
        style=show.style,
        characters=tuple(
            CharacterFacts(
                name=character.name,
                aliases=character.aliases,
                description=character.description,
                references=tuple(store.source_ref(path) for path in character.references),
            )
            for character in show.characters
        ),
    )


def find_prompt_file(workspace: Workspace) -> FileRef:
    """The prompt of the settings, else the one that comes with MiMix; read once to check it."""
    chosen = workspace.file_ref(workspace.config.captions.prompt, "captions.prompt")
    file = chosen or workspace.store.source_ref(DEFAULT)
    read_prompt(file.path)
    return file


def tokenizer_file(workspace: Workspace) -> FileRef | None:
    """The text encoder's tokenizer, when the settings name one."""
    return workspace.file_ref(workspace.config.captions.tokenizer, "captions.tokenizer")


def load_caption_overrides(workspace: Workspace) -> tuple[dict[str, dict[str, str]], list[str]]:
    """By episode, what a person wrote for its clips; and the clips of no episode.

    Each episode is given its own alone: a word changed in one leaves the others as they are.
    """
    path = workspace.config.captions.overrides
    if path is None:
        return {}, []
    if not path.is_file():
        raise BadInput(
            f"no file {path}",
            where="settings, key captions.overrides",
            fix="`mimix captions import` writes it; or take the key out of the settings",
        )
    found: dict[str, dict[str, str]] = {episode.id: {} for episode in workspace.episodes}
    unclaimed = []
    for name, caption in read_overrides(path).items():
        episode = episode_id_of(name)
        if episode in found:
            found[episode][name] = caption
        else:
            unclaimed.append(name)
    return found, unclaimed


def load_captioner_key(settings: CaptionSettings) -> None:
    """Put the key of a Prefect Secret block into this process's environment, where units find it.

    A key that the environment has already stays. Raises BadInput when backend vlm has no key in
    the end, or a budget and no price: before any work, not when the first clip is to be captioned.
    """
    if settings.backend == "vlm":
        load_api_key(settings.vlm, settings.vlm_secret, "captions.vlm_secret")


def _warn_about_captions(run: Run, tables: Sequence[TableRef]) -> None:
    """Tell of captions that say the same of too many clips."""
    alarm = run.workspace.config.captions.identical_caption_warning_count
    for ref in tables:
        notes = run.workspace.store.record(ref).notes
        if int(notes.get("most_shared", 0)) >= alarm:
            run.console.warn(
                f"captions ({ref.unit}): {notes['most_shared']} of {ref.counts.ok} clips have one "
                f"caption: {notes['most_shared_caption']}"
            )
        if "hand_captions_of_no_clip" in notes:
            run.console.warn(
                f"captions ({ref.unit}): {notes['hand_captions_of_no_clip']} captions by hand are "
                "of clips that are not there any more"
            )
