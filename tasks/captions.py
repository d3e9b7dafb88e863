"""Task ``captions``: caption every clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mimix_core.domain.ids import episode_id_of_clip, episode_id_of_composite
from mimix_core.domain.library import Show
from mimix_core.engine.artifacts import FileRef, TableRef
from mimix_core.engine.extensions import extension_source, is_module_name
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.project.workspace import Workspace
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.caption_inputs import CaptionInputs, CharacterProfile, ShowProfile
from mimix_core.stages.captions.overrides import read_overrides
from mimix_core.stages.captions.prompt_template import DEFAULT_PROMPT_PATH, load_prompt_template
from mimix_core.vlm.retries import read_retries
from tasks.base import Run, stage_task
from tasks.decisions import load_edited_captions
from tasks.prefect_secrets import load_api_key

captions_task = stage_task("captions")


def caption_clips(
    run: Run,
    clips: Sequence[TableRef],
    transcripts: Sequence[TableRef],
    speakers: Sequence[TableRef] = (),
) -> list[TableRef]:
    """Caption clips; one table per episode, in the library's order.

    ``speakers``: who speaks each line of the transcripts; empty if the settings do not ask for it.
    """
    workspace = run.workspace
    overrides, _, unknown_clips = load_caption_overrides(workspace)
    overrides_path = workspace.config.captions.overrides
    if run.computes and overrides_path is not None and not overrides_path.exists():
        run.console.warn(
            f"captions.overrides: no caption is replaced, since {overrides_path} does not exist "
            "yet; `mimix captions import` writes it"
        )
    for name in unknown_clips:
        run.console.warn(
            f"captions.overrides: {name} is not a clip or composite of any episode of the library"
        )
    model_inputs = caption_model_inputs(workspace)
    retries = load_retries(workspace, "captions")
    shows_needed = "shows" in model_inputs
    reads_dialogue = workspace.config.captions.backend != "script"
    speakers_read: Sequence[TableRef | None] = (
        speakers if speakers and reads_dialogue else [None] * len(clips)
    )
    model_inputs.pop("shows", None)
    inputs = [
        CaptionInputs(
            unit=e.name,
            style=e.show.style,
            roster=e.show.roster(),
            aliases=e.show.aliases(),
            clips=clip_table,
            transcripts=transcript_table,
            speakers=speaker_table,
            script=e.script,
            plot=e.plot,
            overrides=overrides.get(e.id, {}),
            imported="" if e.imported is None else e.imported.caption,
            tokenizer=tokenizer_file(workspace),
            captioner_source=captioner_source(workspace),
            show=build_show_profile(workspace.store, e.show) if shows_needed else None,
            retries={
                name: count for name, count in retries.items() if episode_id_of_clip(name) == e.id
            },
            **model_inputs,
        )
        for e, clip_table, transcript_table, speaker_table in zip(
            workspace.episodes, clips, transcripts, speakers_read, strict=True
        )
    ]
    tables = run.run_units(captions_task, inputs, workspace.config.captions.effective())
    if run.computes:
        _warn_about_captions(run, tables)
    return tables


def captioner_source(workspace: Workspace) -> FileRef | None:
    """Reference the source file of a captioner from outside MiMix."""
    backend = workspace.config.captions.backend
    source = extension_source(backend) if is_module_name(backend) else None
    return None if source is None else workspace.store.source_ref(source)


def caption_model_inputs(workspace: Workspace) -> dict[str, Any]:
    """Build the inputs that only a model needs: shows, prompt and response cache; else nothing."""
    settings = workspace.config.captions
    if settings.backend != "vlm":
        return {}
    return {
        "shows": tuple(
            build_show_profile(workspace.store, show) for show in workspace.library.shows
        ),
        "prompt": find_prompt_file(workspace),
        "response_cache": workspace.config.workspace / "answers",
    }


def load_retries(workspace: Workspace, stage: str) -> dict[str, int]:
    """Load how often a person wanted another response to each row of a stage."""
    if workspace.config.captions.backend != "vlm":
        return {}
    return read_retries(workspace.config.workspace, stage)


def build_show_profile(store: Store, show: Show) -> ShowProfile:
    """Collect the data on a show that captioners receive."""
    return ShowProfile(
        id=show.id,
        title=show.title,
        style=show.style,
        characters=tuple(
            CharacterProfile(
                name=character.name,
                aliases=character.aliases,
                description=character.description,
                references=tuple(store.source_ref(path) for path in character.references),
            )
            for character in show.characters
        ),
    )


def find_prompt_file(workspace: Workspace) -> FileRef:
    """Return the validated prompt file of the settings, or the one that ships with MiMix."""
    custom = workspace.file_ref(workspace.config.captions.prompt, "captions.prompt")
    file = custom or workspace.store.source_ref(DEFAULT_PROMPT_PATH)
    load_prompt_template(file.path)
    return file


def tokenizer_file(workspace: Workspace) -> FileRef | None:
    """Return the text encoder's tokenizer if the settings name one."""
    return workspace.file_ref(workspace.config.captions.tokenizer, "captions.tokenizer")


def load_caption_overrides(
    workspace: Workspace,
) -> tuple[dict[str, dict[str, str]], dict[str, str], list[str]]:
    """Load the captions written by hand: by episode and clip, by composite, and those of neither.

    Each episode gets only its own overrides: a change in one does not invalidate the others.
    Those of the studio count if both have one. Nothing of the file before its first import. Raises
    BadInput for a folder or an invalid line.
    """
    path = workspace.config.captions.overrides
    written: dict[str, str] = {}
    # `mimix captions import` writes the file, and needs the captions of a run before it.
    if path is not None and path.exists():
        written = _read_overrides_file(path)
    by_episode: dict[str, dict[str, str]] = {episode.id: {} for episode in workspace.episodes}
    composites: dict[str, str] = {}
    unknown_clips = []
    for name, caption in {**written, **load_edited_captions(workspace)}.items():
        episode = episode_id_of_clip(name)
        if episode in by_episode:
            by_episode[episode][name] = caption
        elif episode_id_of_composite(name, by_episode) is not None:
            composites[name] = caption
        elif name in written:
            unknown_clips.append(name)
    return by_episode, composites, unknown_clips


def _read_overrides_file(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise BadInput(
            f"{path} is not a file",
            where="settings, key captions.overrides",
            fix="Name a file, e.g. captions.jsonl; `mimix captions import` writes it.",
        )
    return read_overrides(path)


def load_captioner_key(settings: CaptionSettings) -> None:
    """Load the captioner's API key from a Prefect Secret block into the environment of the units.

    A key that is already in the environment takes precedence. Raises BadInput before any work if
    backend vlm has no key, or a budget but no price.
    """
    if settings.backend == "vlm":
        load_api_key(settings.vlm, settings.vlm_secret, "captions.vlm_secret")


def _warn_about_captions(run: Run, tables: Sequence[TableRef]) -> None:
    """Warn about captions shared by too many clips, and overrides of missing clips."""
    threshold = run.workspace.config.captions.identical_caption_warning_count
    for ref in tables:
        notes = run.workspace.store.record(ref).notes
        if int(notes.get("most_shared", 0)) >= threshold:
            run.console.warn(
                f"captions ({ref.unit}): {notes['most_shared']} of {ref.counts.ok} clips share "
                f"one caption: {notes['most_shared_caption']}"
            )
        if "hand_captions_of_no_clip" in notes:
            run.console.warn(
                f"captions ({ref.unit}): {notes['hand_captions_of_no_clip']} overrides are "
                "for clips that no longer exist"
            )
