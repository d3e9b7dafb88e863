"""Stage ``speakers``: one row per line of dialogue, with the character who speaks it, or with none.

In this order: a person's decision, the name that the line itself begins with, the voice. Lines of
the first two kinds, of all episodes of the show, are exemplars of a character's voice, and so are
the recordings of ``library.yaml``. A voice that reaches no character's limit is that of none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from mimix_core import tables
from mimix_core.characters.bank import Floats
from mimix_core.characters.voice_bank import (
    MAX_EXEMPLARS,
    MIN_EXEMPLAR_MS,
    VoiceBank,
    build_voice_bank,
    encode_recording,
)
from mimix_core.characters.voice_encoders import load_voice_encoder
from mimix_core.domain.character_names import alias_map
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.settings import SpeakerSettings
from mimix_core.stages.speakers.named_lines import is_of_two, named_speaker
from mimix_core.tables import Reason, Row, Status, VoiceRow

PERSON, TEXT, VOICE, NONE = "person", "text", "voice", "none"


class VoiceRecording(FrozenModel):
    """A recording in which only one character speaks."""

    character: str
    file: FileRef


class SpeakerInputs(FrozenModel):
    """One episode's voices, and all that is known of the characters' voices.

    ``show_voices``: of the show's other episodes. ``roster`` and ``aliases``: of the characters who
    can appear in the episode. ``named``: who speaks a line by a person's decision, empty for none
    of the cast. ``backend`` and ``weights``: of the encoder that made the vectors.
    """

    unit: Annotated[str, ExcludeFromKey()]
    voices: TableRef
    show_voices: tuple[TableRef, ...] = ()
    roster: tuple[str, ...]
    aliases: dict[str, str] = Field(default_factory=dict)
    recordings: tuple[VoiceRecording, ...] = ()
    named: dict[str, str] = Field(default_factory=dict)
    backend: str
    weights: FileRef | None = None


def run(inputs: SpeakerInputs, settings: SpeakerSettings, out: Path) -> StageReport:
    """Return one row per line. Raises BadInput for a recording that cannot be used, MissingModel.

    Notes: exemplars and limit of each character.
    """
    rows = tables.read(inputs.voices.path, tables.VOICES)
    if not rows:
        return StageReport([], rows_in=0)
    names = alias_map(inputs.roster, inputs.aliases)
    bank = load_voices(inputs, settings)
    attached = [_attach(row, bank, inputs.named, names, settings) for row in rows]
    notes: dict[str, str | int | float] = {"exemplars": sum(map(len, bank.bank.vectors.values()))}
    for name, vectors in bank.bank.vectors.items():
        notes[f"exemplars_of_{name}"] = len(vectors)
        notes[f"limit_of_{name}"] = bank.limit(name)
    return StageReport(attached, rows_in=len(rows), notes=notes)


def load_voices(inputs: SpeakerInputs, settings: SpeakerSettings) -> VoiceBank:
    """Build the bank of the show's voices. Raises BadInput, MissingModel."""
    weights = None if inputs.weights is None else inputs.weights.path
    encoder = load_voice_encoder(inputs.backend, weights)
    names = alias_map(inputs.roster, inputs.aliases)
    exemplars: dict[str, list[Floats]] = {name: [] for name in inputs.roster}
    for recording in inputs.recordings:
        if recording.character in exemplars:
            exemplars[recording.character] += encode_recording(encoder, recording.file.path)
    spoken = [
        row
        for table in (inputs.voices, *inputs.show_voices)
        for row in tables.usable(tables.read(table.path, tables.VOICES))
        if row["speech_ms"] >= MIN_EXEMPLAR_MS
    ]
    spoken.sort(key=lambda row: (-row["speech_ms"], row["line_id"]))
    for row in spoken:
        name, _ = _known_speaker(row, inputs.named, names, settings)
        if name in exemplars and len(exemplars[name]) < MAX_EXEMPLARS:
            exemplars[name].append(np.array(row["vector"], np.float32))
    return build_voice_bank(exemplars, encoder, settings.min_similarity)


STAGE = Stage(
    name="speakers",
    title="Speakers",
    description="Attach every line of dialogue to the character who speaks it, or to none; only "
    "if voices.backend is set.",
    row_noun="lines",
    phase=Phase.CURATION,
    upstream=("voices",),
    version=1,
    inputs=SpeakerInputs,
    settings=SpeakerSettings,
    table=tables.SPEAKERS,
    run=run,
)


def _known_speaker(
    row: VoiceRow,
    named: Mapping[str, str],
    names: Mapping[str, str],
    settings: SpeakerSettings,
) -> tuple[str, str]:
    """Return who speaks a line without listening to it, and the source: a person or the text."""
    if row["line_id"] in named:
        return named[row["line_id"]], PERSON
    name = named_speaker(row["text"], names) if settings.named_lines else ""
    return name, TEXT if name else NONE


def _attach(
    row: VoiceRow,
    bank: VoiceBank,
    named: Mapping[str, str],
    names: Mapping[str, str],
    settings: SpeakerSettings,
) -> Row:
    columns: Row = {name: row[name] for name in _SHARED}  # type: ignore[literal-required]
    speaker, source = _known_speaker(row, named, names, settings)
    columns |= {"speaker": speaker, "source": source}
    columns |= {"nearest": "", "similarity": None, "limit": None}
    if source != NONE:
        return tables.ok(**columns)
    if row["status"] == Status.FAILED:
        return tables.failed(Reason.UPSTREAM_FAILED, row["detail"] or "", **columns)
    compared = row["status"] == Status.OK and not is_of_two(row["text"])
    match = bank.match(np.array(row["vector"], np.float32)) if compared else None
    if match is None:
        return tables.ok(**columns)
    columns |= {
        "nearest": match.character,
        "similarity": round(match.similarity, 4),
        "limit": match.limit,
    }
    if match.recognized:
        columns |= {"speaker": match.character, "source": VOICE}
    return tables.ok(**columns)


_SHARED = ("line_id", "clip_id", "start_ms", "end_ms", "text")
