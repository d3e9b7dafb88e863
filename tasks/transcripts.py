"""Task ``transcripts``: get the dialogue of every clip."""

from collections.abc import Sequence

from mimix_core.domain.subtitle_files import parse_subtitle_language
from mimix_core.engine.artifacts import TableRef
from mimix_core.stages.transcripts import TranscriptInputs
from tasks.base import Run, stage_task

transcripts_task = stage_task("transcripts")


def transcribe_clips(run: Run, clips: Sequence[TableRef]) -> list[TableRef]:
    """Transcribe clips; one table per episode, in the library's order."""
    settings = run.workspace.config.transcripts
    model = run.workspace.file_ref(settings.asr_model, "transcripts.asr_model")
    inputs = [
        TranscriptInputs(
            unit=e.name,
            video=e.video,
            clips=clip_table,
            subtitles=e.subtitles,
            subtitles_language=""
            if e.subtitles is None
            else parse_subtitle_language(e.subtitles.path, e.video.path),
            speech_model=model,
            language=e.show.language,
        )
        for e, clip_table in zip(run.workspace.episodes, clips, strict=True)
    ]
    return run.run_units(transcripts_task, inputs, settings)
