"""Tasks ``voices`` and ``speakers``: who speaks each line of dialogue."""

from __future__ import annotations

from collections.abc import Sequence

from mimix_core.domain.ids import clip_id_of_line, episode_id_of_clip
from mimix_core.engine.artifacts import FileRef, TableRef
from mimix_core.project.item_decisions import read_item_decisions
from mimix_core.stages.speakers import SpeakerInputs, VoiceRecording
from mimix_core.stages.voices import VoiceInputs
from tasks.base import Run, stage_task

voices_task = stage_task("voices")
speakers_task = stage_task("speakers")


def encode_voices(
    run: Run, clips: Sequence[TableRef], transcripts: Sequence[TableRef]
) -> list[TableRef]:
    """Encode the voice of each line; one table per episode, none without an encoder."""
    settings = run.workspace.config.voices
    if settings.backend == "none":
        return []
    weights = _weights(run)
    inputs = [
        VoiceInputs(
            unit=e.name,
            video=e.video,
            clips=clip_table,
            transcripts=transcript_table,
            language=e.show.language or run.workspace.config.transcripts.language,
            weights=weights,
        )
        for e, clip_table, transcript_table in zip(
            run.workspace.episodes, clips, transcripts, strict=True
        )
    ]
    return run.run_units(voices_task, inputs, settings)


def attach_speakers(run: Run, voices: Sequence[TableRef]) -> list[TableRef]:
    """Attach each line to a character or to none; one table per episode.

    Voices of a show are compared with exemplars of all its episodes.
    """
    if not voices:
        return []
    inputs = speaker_inputs(run, voices)
    refs = run.run_units(speakers_task, inputs, run.workspace.config.speakers)
    if run.computes:
        without = sorted(
            {
                e.show.title
                for e, ref in zip(run.workspace.episodes, refs, strict=True)
                if ref.counts.ok and not run.workspace.store.record(ref).notes.get("exemplars")
            }
        )
        for title in without:
            run.console.warn(
                f"speakers: no voice of {title} is known: add recordings of its characters, or "
                "name some lines (docs/voices.md)"
            )
    return refs


def speaker_inputs(run: Run, voices: Sequence[TableRef]) -> list[SpeakerInputs]:
    """Build the inputs of each episode; each depends only on decisions about lines of its show."""
    workspace = run.workspace
    weights = _weights(run)
    named = read_item_decisions(workspace.config.decisions).named_lines()
    show_of = {episode.id: episode.show.id for episode in workspace.episodes}
    inputs = []
    for number, episode in enumerate(workspace.episodes):
        show = episode.show
        others = tuple(
            table
            for other, table in enumerate(voices)
            if other != number and workspace.episodes[other].show.id == show.id
        )
        inputs.append(
            SpeakerInputs(
                unit=episode.name,
                voices=voices[number],
                show_voices=others,
                roster=show.roster(),
                aliases=show.aliases(),
                recordings=tuple(
                    VoiceRecording(character=one.name, file=workspace.store.source_ref(path))
                    for one in show.characters
                    for path in one.voices
                ),
                named={
                    line: name
                    for line, name in named.items()
                    if show_of.get(episode_id_of_clip(clip_id_of_line(line))) == show.id
                },
                backend=workspace.config.voices.backend,
                weights=weights,
            )
        )
    return inputs


def _weights(run: Run) -> FileRef | None:
    settings = run.workspace.config.voices
    if settings.backend != "wespeaker":
        return None
    return run.workspace.file_ref(settings.weights, "voices.weights")
