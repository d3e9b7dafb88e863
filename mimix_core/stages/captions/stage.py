"""Stage ``captions``: one checked caption per clip, from a script, a model or a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, zip_longest
from pathlib import Path

from mimix_core import tables
from mimix_core.domain.caption_grammar import Caption, parse_caption, render_caption
from mimix_core.domain.character_names import alias_map
from mimix_core.domain.sidecar_index import SCRIPT_ENDINGS
from mimix_core.engine import progress
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.settings import CaptionSettings, exact_seconds
from mimix_core.stages.captions.action_script import ScriptCaptioner, load_action_script
from mimix_core.stages.captions.caption_inputs import CaptionInputs, ClipDialogue, load_dialogues
from mimix_core.stages.captions.caption_rows import caption_columns, row_with_reason
from mimix_core.stages.captions.caption_validation import (
    CaptionRules,
    find_caption_problems,
    most_common_caption,
)
from mimix_core.stages.captions.custom_captioner import (
    ClipToCaption,
    custom_caption_row,
    load_captioner,
)
from mimix_core.stages.captions.hand_captions import HAND, hand_caption_row
from mimix_core.stages.captions.imported_captions import imported_caption_row
from mimix_core.stages.captions.prompt_template import load_prompt_template
from mimix_core.stages.captions.token_count import load_token_counter
from mimix_core.stages.captions.vlm_captioner import CaptionTask, VlmCaptioner
from mimix_core.stages.captions.vlm_prompt import (
    build_show_prompt,
    clip_image_parts,
    clip_text_part,
    nearby_script_lines,
)
from mimix_core.tables import ClipRow, Reason, Row, Status
from mimix_core.vlm import ChatMessage


def run(inputs: CaptionInputs, settings: CaptionSettings, out: Path) -> StageReport:
    """Return one row per ok clip: a checked caption, or the reason why there is none.

    A caption written by hand replaces any other, and one that came with the clip all but that.
    Notes: the most common caption and its count, and the unit in which the length was checked.
    Raises BadInput when the script or the prompt is not readable, the script names an unknown
    character, or the budget is spent.
    """
    names = alias_map(inputs.roster, inputs.aliases)
    script = load_action_script(
        inputs.script,
        names=names,
        style=inputs.style,
        min_overlap=exact_seconds(settings.min_overlap_seconds),
    )
    clips = list(tables.usable(tables.read(inputs.clips.path, tables.CLIPS)))
    dialogues = load_dialogues(inputs.transcripts, inputs.speakers)
    rules = episode_rules(inputs, settings)
    rows: list[Row] = []
    remaining = []
    for clip in clips:
        override = inputs.overrides.get(clip["clip_id"])
        if override is None and inputs.imported:
            row = imported_caption_row(clip["clip_id"], inputs.imported, rules, names, len(clips))
            rows.append(row)
        elif override is None:
            remaining.append(clip)
        else:
            rows.append(hand_caption_row(clip["clip_id"], override, rules, names))
    if settings.backend == "script":
        for clip in remaining:
            rows.append(_script_row(clip, script, inputs, settings, rules))
            progress.report_progress(len(rows), len(clips), clip["clip_id"])
    elif settings.backend != "vlm":
        captioner_name = settings.backend
        caption_clip = load_captioner(captioner_name).build()
        for clip in remaining:
            description = ClipToCaption(
                video=inputs.clips.folder / clip["file"],
                dialogue=dialogues.get(clip["clip_id"], ClipDialogue()).spoken_text,
                roster=inputs.roster,
                style=inputs.style,
                row=clip,
            )
            rows.append(custom_caption_row(captioner_name, caption_clip, description, rules))
            progress.report_progress(len(rows), len(clips), clip["clip_id"])
    elif remaining:
        overrides = {
            row["clip_id"]: parse_caption(row["caption"])
            for row in rows
            if row["status"] == Status.OK
        }
        captioner = _EpisodeCaptioner(inputs, settings, script, dialogues, rules, clips)
        rows += captioner.build_rows(remaining, overrides)
    return StageReport(rows, rows_in=len(clips), notes=_notes(rows, inputs))


def episode_rules(inputs: CaptionInputs, settings: CaptionSettings) -> CaptionRules:
    """Return the rules for all captions of an episode."""
    tokenizer = inputs.tokenizer
    return CaptionRules(
        roster=inputs.roster,
        style=inputs.style,
        max_words=settings.max_words,
        max_tokens=settings.max_tokens,
        count_tokens=load_token_counter(tokenizer.path) if tokenizer is not None else None,
        english=settings.language == "en",
    )


def _notes(rows: Sequence[Row], inputs: CaptionInputs) -> dict[str, str | int | float]:
    shared, count = most_common_caption(
        row["caption"] for row in rows if row["status"] == Status.OK
    )
    notes: dict[str, str | int | float] = {
        "length_checked_in": "words" if inputs.tokenizer is None else "tokens",
        "most_shared": count,
    }
    if count > 1:
        notes["most_shared_caption"] = shared
    if (unused := len(inputs.overrides) - sum(row["backend"] == HAND for row in rows)) > 0:
        notes["hand_captions_of_no_clip"] = unused
    return notes


def _script_row(
    clip: ClipRow,
    script: ScriptCaptioner,
    inputs: CaptionInputs,
    settings: CaptionSettings,
    rules: CaptionRules,
) -> Row:
    caption = script.caption_clip(clip)
    values = caption_columns(clip["clip_id"], script.name, caption, inputs.style)
    if caption is None:
        detail = (
            f"no character acts for {settings.min_overlap_seconds} s of the clip"
            if inputs.script is not None
            else "the episode has no script: library.yaml names none, and next to the video there "
            f"is no file of its name with {', '.join(SCRIPT_ENDINGS)}"
        )
        return row_with_reason(Reason.NO_ACTION_IN_SCRIPT, detail, values)
    problems = find_caption_problems(caption, rules)
    reason = Reason.CAPTION_CHECK_FAILED if problems else None
    return row_with_reason(reason, "; ".join(problems), values)


class _EpisodeCaptioner:
    """Captions the clips of one episode with a vision-language model."""

    def __init__(
        self,
        inputs: CaptionInputs,
        settings: CaptionSettings,
        script: ScriptCaptioner,
        dialogues: Mapping[str, ClipDialogue],
        rules: CaptionRules,
        clips: Sequence[ClipRow],
    ) -> None:
        if inputs.show is None or inputs.prompt is None or inputs.response_cache is None:
            raise BadInput("backend vlm needs the show, the prompt and a folder for its responses")
        self.inputs, self.settings, self.script = inputs, settings, script
        self.dialogues, self.rules = dialogues, rules
        self.captioner = VlmCaptioner(
            load_prompt_template(inputs.prompt.path), settings, inputs.response_cache
        )
        self.prompt = build_show_prompt(inputs.show, self.captioner.template, settings)
        # clip_id -> id of the previous clip of its scene, if its caption is part of the request.
        self.previous: dict[str, str] = {}
        if settings.caption_context == "previous":
            for scene in _group_by_scene(clips):
                ids = [clip["clip_id"] for clip in scene]
                self.previous |= dict(zip(ids[1:], ids, strict=False))

    def build_rows(self, clips: Sequence[ClipRow], overrides: Mapping[str, Caption]) -> list[Row]:
        """Caption all clips at once, or in waves if requests contain the previous caption.

        ``overrides``: captions of the episode's other clips, written by hand.
        """
        captions = dict(overrides)
        rows: list[Row] = []
        for wave in self._waves(clips):
            caption_tasks = [self._caption_task(clip, captions) for clip in wave]
            rows_before = len(rows)

            def report(done: int, _total: int, name: str, rows_before: int = rows_before) -> None:
                progress.report_progress(rows_before + done, len(clips), name)

            results = self.captioner.caption_all(caption_tasks, report)
            rows += [
                self.captioner.build_row(task.id, results[task.id], task.rules)
                for task in caption_tasks
            ]
            captions |= {
                name: result.caption
                for name, result in results.items()
                if result.caption is not None and result.reason is None
            }
        return rows

    def _waves(self, clips: Sequence[ClipRow]) -> Iterator[list[ClipRow]]:
        """Yield the clips in waves: a previous clip that is needed is in an earlier wave."""
        if not self.previous:
            yield list(clips)
            return
        for wave in zip_longest(*_group_by_scene(clips)):
            yield [clip for clip in wave if clip is not None]

    def _caption_task(self, clip: ClipRow, captions: Mapping[str, Caption]) -> CaptionTask:
        previous = captions.get(self.previous.get(clip["clip_id"], ""))
        dialogue = self.dialogues.get(clip["clip_id"], ClipDialogue())
        path = self.inputs.clips.folder / clip["file"]

        def build_messages() -> tuple[ChatMessage, ...]:
            text = clip_text_part(
                self.prompt,
                clip,
                dialogue=dialogue,
                script=nearby_script_lines(self.script, clip),
                plot=self.inputs.plot,
                previous_caption=render_caption(previous) if previous is not None else "",
            )
            return self.prompt.build_messages(text, *clip_image_parts(path, clip, self.prompt))

        # The model has the dialogue but no audio: any other quote is made up.
        rules = replace(self.rules, dialogue=dialogue.text)
        retry = self.inputs.retries.get(clip["clip_id"], 0)
        return CaptionTask(clip["clip_id"], build_messages, rules, retry)


def _group_by_scene(clips: Sequence[ClipRow]) -> list[list[ClipRow]]:
    """Group clips by scene, in the order of their start: ids of one episode sort by it."""
    ordered = sorted(clips, key=lambda clip: (clip["scene_id"], clip["clip_id"]))
    return [list(scene) for _, scene in groupby(ordered, key=lambda clip: clip["scene_id"])]


STAGE = Stage(
    name="captions",
    title="Captions",
    description="Describe each clip by who does what, with the character and style tags of "
    "the paper.",
    row_noun="clips",
    phase=Phase.CURATION,
    upstream=("duplicates", "transcripts", "speakers"),
    resources=frozenset({Resource.CPU, Resource.NETWORK}),
    version=4,
    inputs=CaptionInputs,
    settings=CaptionSettings,
    table=tables.CAPTIONS,
    run=run,
)
