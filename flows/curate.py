"""Flow ``curate``: from episodes to captioned clips."""

from dataclasses import dataclass

from prefect import flow

from flows.session import flow_session
from mimix_core.engine.artifacts import TableRef
from mimix_core.settings import Config
from tasks.base import Run
from tasks.captions import caption_clips
from tasks.clips import cut_clips
from tasks.duplicates import reject_duplicates
from tasks.overlays import detect_overlays
from tasks.run_summary import RunSummary
from tasks.scenes import detect_scenes
from tasks.transcripts import transcribe_clips
from tasks.voices import attach_speakers, encode_voices


@dataclass(frozen=True)
class CuratedTables:
    """Tables of curation, one per episode each, in the library's order."""

    scenes: list[TableRef]
    overlays: list[TableRef]
    clips: list[TableRef]
    transcripts: list[TableRef]
    captions: list[TableRef]


def curate_stages(run: Run) -> CuratedTables:
    """Run all stages of curation."""
    scene_tables = detect_scenes(run)
    overlay_tables = detect_overlays(run, scene_tables)
    clip_tables = reject_duplicates(run, cut_clips(run, scene_tables, overlay_tables))
    transcript_tables = transcribe_clips(run, clip_tables)
    voice_tables = encode_voices(run, clip_tables, transcript_tables)
    speaker_tables = attach_speakers(run, voice_tables)
    caption_tables = caption_clips(run, clip_tables, transcript_tables, speaker_tables)
    return CuratedTables(
        scene_tables, overlay_tables, clip_tables, transcript_tables, caption_tables
    )


def voice_stages(run: Run) -> list[TableRef]:
    """Run the stages up to the voices of the lines of dialogue; one table per episode."""
    scene_tables = detect_scenes(run)
    overlay_tables = detect_overlays(run, scene_tables)
    clip_tables = reject_duplicates(run, cut_clips(run, scene_tables, overlay_tables))
    return encode_voices(run, clip_tables, transcribe_clips(run, clip_tables))


@flow(name="curate")
def curate(config: Config) -> RunSummary:
    """Run scenes, overlays, clips, duplicates, transcripts, voices, speakers and captions."""
    with flow_session(config, "curate") as run:
        curate_stages(run)
        return run.summary()
