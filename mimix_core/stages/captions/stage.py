"""Stage ``captions``: one caption per clip, from a script, a model or a person, checked here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, zip_longest
from pathlib import Path

from mimix_core import tables
from mimix_core.domain.caption_grammar import BadCaption, Caption, parse, render
from mimix_core.domain.character_names import names_of
from mimix_core.engine import progress
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.settings import CaptionSettings, exact
from mimix_core.stages.captions.action_script import ScriptCaptioner, read_script
from mimix_core.stages.captions.caption_inputs import CaptionInputs, Dialogue, dialogues
from mimix_core.stages.captions.caption_rows import columns
from mimix_core.stages.captions.caption_validation import Rules, most_shared, problems
from mimix_core.stages.captions.prompt_template import read_prompt
from mimix_core.stages.captions.token_count import token_counter
from mimix_core.stages.captions.vlm_captioner import Captioning, Subject, row_of
from mimix_core.stages.captions.vlm_prompt import (
    Briefing,
    brief,
    clip_pictures,
    clip_text,
    script_lines,
)
from mimix_core.tables import Reason, Row
from mimix_core.vlm import Message

HAND = "hand"


def run(inputs: CaptionInputs, settings: CaptionSettings, out: Path) -> StageReport:
    """One row per ok clip: a checked caption, or why there is none.

    What a person wrote for a clip stands in for all else. Notes: the caption that most clips share
    and how many; by what the length was checked. Raises BadInput when the script or the prompt is
    not readable, the script names somebody unknown, or the budget is spent.
    """
    script = read_script(
        inputs.script,
        names=names_of(inputs.roster, inputs.aliases),
        style=inputs.style,
        min_overlap=exact(settings.min_overlap),
    )
    clips = list(tables.usable(tables.read(inputs.clips.path, tables.CLIPS)))
    spoken = dialogues(inputs.transcripts)
    rules = clip_rules(inputs, settings)
    rows: list[Row] = []
    waiting = []
    for clip in clips:
        written = inputs.hand.get(clip["clip_id"])
        if written is None:
            waiting.append(clip)
        else:
            rows.append(_hand_row(clip["clip_id"], written, rules))
    if settings.backend == "script":
        for clip in waiting:
            rows.append(_script_row(clip, script, inputs, settings, rules))
            progress.advance(len(rows), len(clips), clip["clip_id"])
    elif waiting:
        known = {row["clip_id"]: parse(row["caption"]) for row in tables.usable(rows)}
        episode = _Episode(inputs, settings, script, spoken, rules, clips)
        rows += episode.rows(waiting, known)
    return StageReport(rows, rows_in=len(clips), notes=_notes(rows, inputs))


def clip_rules(inputs: CaptionInputs, settings: CaptionSettings) -> Rules:
    """What all captions of an episode are held to."""
    tokenizer = inputs.tokenizer
    return Rules(
        roster=inputs.roster,
        style=inputs.style,
        max_words=settings.max_words,
        max_tokens=settings.max_tokens,
        count_tokens=token_counter(tokenizer.path) if tokenizer is not None else None,
        english=settings.language == "en",
    )


def _notes(rows: Sequence[Row], inputs: CaptionInputs) -> dict[str, str | int | float]:
    shared, times = most_shared(row["caption"] for row in tables.usable(rows))
    notes: dict[str, str | int | float] = {
        "length_checked_in": "words" if inputs.tokenizer is None else "tokens",
        "most_shared": times,
    }
    if times > 1:
        notes["most_shared_caption"] = shared
    if (unused := len(inputs.hand) - sum(row["backend"] == HAND for row in rows)) > 0:
        notes["hand_captions_of_no_clip"] = unused
    return notes


def _hand_row(clip_id: str, written: str, rules: Rules) -> Row:
    """The row of a caption that a person wrote; nothing written leaves the clip out."""
    if not written:
        empty = columns(clip_id, HAND, None, rules.style)
        return row_of(Reason.LEFT_OUT_BY_HAND, "left out by hand", empty)
    try:
        caption = parse(written)
    except BadCaption as error:
        empty = columns(clip_id, HAND, None, rules.style)
        return row_of(Reason.CAPTION_CHECK_FAILED, str(error), empty)
    wrong = problems(caption, rules)
    values = columns(clip_id, HAND, caption, rules.style)
    return row_of(Reason.CAPTION_CHECK_FAILED if wrong else None, "; ".join(wrong), values)


def _script_row(
    clip: Row,
    script: ScriptCaptioner,
    inputs: CaptionInputs,
    settings: CaptionSettings,
    rules: Rules,
) -> Row:
    caption = script.caption(clip)
    values = columns(clip["clip_id"], script.name, caption, inputs.style)
    if caption is None:
        detail = (
            f"nobody acts for {settings.min_overlap} s of the clip"
            if inputs.script is not None
            else "the episode has no script"
        )
        return row_of(Reason.NO_ACTION_IN_SCRIPT, detail, values)
    wrong = problems(caption, rules)
    return row_of(Reason.CAPTION_CHECK_FAILED if wrong else None, "; ".join(wrong), values)


class _Episode:
    """An episode whose clips a vision-language model is shown."""

    def __init__(
        self,
        inputs: CaptionInputs,
        settings: CaptionSettings,
        script: ScriptCaptioner,
        spoken: Mapping[str, Dialogue],
        rules: Rules,
        clips: Sequence[Row],
    ) -> None:
        if inputs.show is None or inputs.prompt is None or inputs.answers is None:
            raise BadInput("backend vlm needs the show, the prompt and a folder for its answers")
        self.inputs, self.settings, self.script = inputs, settings, script
        self.spoken, self.rules = spoken, rules
        self.asker = Captioning(read_prompt(inputs.prompt.path), settings, inputs.answers)
        self.briefing: Briefing = brief(inputs.show, self.asker.prompt, settings)
        # clip_id -> that of the clip before it in its scene, where that is to be told.
        self.before: dict[str, str] = {}
        if settings.neighbours == "before":
            for scene in _scenes(clips):
                ids = [clip["clip_id"] for clip in scene]
                self.before |= dict(zip(ids[1:], ids, strict=False))

    def rows(self, clips: Sequence[Row], known: Mapping[str, Caption]) -> list[Row]:
        """All clips at once; or, when each is told of the one before, wave by wave.

        ``known``: captions that are there already.
        """
        captions = dict(known)
        rows: list[Row] = []
        for wave in self._waves(clips):
            subjects = [self._subject(clip, captions) for clip in wave]
            done = len(rows)

            def tell(n: int, _of: int, name: str, done: int = done) -> None:
                progress.advance(done + n, len(clips), name)

            told = self.asker.captions(subjects, tell)
            rows += [self.asker.row(one.id, told[one.id], one.rules) for one in subjects]
            captions |= {
                name: one.caption
                for name, one in told.items()
                if one.caption is not None and one.reason is None
            }
        return rows

    def _waves(self, clips: Sequence[Row]) -> Iterator[list[Row]]:
        """Clips whose former one, if it is to be told, is in an earlier wave."""
        if not self.before:
            yield list(clips)
            return
        for wave in zip_longest(*_scenes(clips)):
            yield [clip for clip in wave if clip is not None]

    def _subject(self, clip: Row, captions: Mapping[str, Caption]) -> Subject:
        former = captions.get(self.before.get(clip["clip_id"], ""))
        heard = self.spoken.get(clip["clip_id"], Dialogue())
        path = self.inputs.clips.folder / clip["file"]

        def messages() -> tuple[Message, ...]:
            text = clip_text(
                self.briefing,
                clip,
                dialogue=heard,
                script=script_lines(self.script, clip),
                plot=self.inputs.plot,
                before=render(former) if former is not None else "",
            )
            return self.briefing.messages(text, *clip_pictures(path, clip, self.briefing))

        # The model reads the dialogue and hears nothing: what is not in there it made up.
        rules = replace(self.rules, said=heard.text)
        return Subject(clip["clip_id"], messages, rules)


def _scenes(clips: Sequence[Row]) -> list[list[Row]]:
    """Clips by scene, in the order of their start: ids of one episode sort by it."""
    ordered = sorted(clips, key=lambda clip: (clip["scene_id"], clip["clip_id"]))
    return [list(scene) for _, scene in groupby(ordered, key=lambda clip: clip["scene_id"])]


STAGE = Stage(
    name="captions",
    title="Captions",
    description="Describe each clip by who does what, with the character and style tags of "
    "the paper.",
    row_noun="clips",
    phase=Phase.CURATION,
    upstream=("duplicates", "transcripts"),
    resources=frozenset({Resource.CPU, Resource.NETWORK}),
    version=3,
    inputs=CaptionInputs,
    settings=CaptionSettings,
    table=tables.CAPTIONS,
    run=run,
)
