"""Stage ``recaptions``: caption composites.

The paper asks its captioner again, with the information which character was inserted; so does
backend vlm. With scripts the caption follows from two others: the background's caption, and the
actions of the inserted character in its own clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mimix_core import tables
from mimix_core.domain.caption_grammar import Caption, parse_caption, render_caption
from mimix_core.domain.co_actors import find_absent_co_actors
from mimix_core.domain.library import Style
from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.caption_inputs import CharacterProfile, ShowProfile
from mimix_core.stages.captions.caption_rows import caption_columns, row_with_reason
from mimix_core.stages.captions.caption_validation import CaptionRules, find_caption_problems
from mimix_core.stages.captions.prompt_template import load_prompt_template
from mimix_core.stages.captions.token_count import load_token_counter
from mimix_core.stages.captions.vlm_captioner import CaptionTask, VlmCaptioner
from mimix_core.stages.captions.vlm_prompt import (
    ClipVideo,
    ShowPrompt,
    build_show_prompt,
    clip_image_parts,
    reference_parts,
    visual_input_values,
)
from mimix_core.tables import CompositeRow, Reason, Row
from mimix_core.vlm import ChatMessage, TextPart

COMPOSED = "script-composed"


class RecaptionInputs(FrozenModel):
    """The composites, and the captions of all clips that they were rendered from.

    ``shows`` (of the composites and their characters), ``prompt`` (the prompt file) and
    ``response_cache`` (the folder of paid responses) are for backend vlm alone. ``retries``:
    composite_id -> how often a person wanted another response of the model.
    """

    unit: Annotated[str, ExcludeFromKey()]
    composites: TableRef
    captions: tuple[TableRef, ...]
    tokenizer: FileRef | None = None
    shows: tuple[ShowProfile, ...] = ()
    prompt: FileRef | None = None
    response_cache: Annotated[Path | None, ExcludeFromKey()] = None
    retries: dict[str, int] = Field(default_factory=dict)


def compose_caption(background: Caption, source: Caption, character: str) -> Caption:
    """Add the actions of ``character`` in ``source`` to the background's caption.

    Context and style are the background's. Raises ValueError when the source's caption does not
    name the character.
    """
    inserted = tuple(action for action in source.actions if action.name == character)
    if not inserted:
        raise ValueError(f"the source's caption does not name {character!r}")
    return background.model_copy(update={"actions": (*background.actions, *inserted)})


def run(inputs: RecaptionInputs, settings: CaptionSettings, out: Path) -> StageReport:
    """Return one row per ok composite; its ``clip_id`` is the composite's id.

    Raises BadInput when the prompt is not readable or the budget is spent.
    """
    captions = {
        row["clip_id"]: parse_caption(row["caption"])
        for ref in inputs.captions
        for row in tables.usable(tables.read(ref.path, tables.CAPTIONS))
    }
    composites = list(tables.usable(tables.read(inputs.composites.path, tables.COMPOSITES)))
    count_tokens = (
        load_token_counter(inputs.tokenizer.path) if inputs.tokenizer is not None else None
    )
    backend = COMPOSED if settings.backend != "vlm" else f"vlm/{settings.vlm.backend}"
    rows: list[Row] = []
    captionable = []
    for composite in composites:
        clip_ids = (composite["background_clip_id"], composite["source_clip_id"])
        missing = [clip_id for clip_id in clip_ids if clip_id not in captions]
        if missing:
            empty = caption_columns(
                composite["composite_id"], backend, None, Style(composite["style"])
            )
            detail = f"no caption of {' and '.join(missing)}"
            rows.append(row_with_reason(Reason.UPSTREAM_FAILED, detail, empty))
        else:
            captionable.append(composite)
    if settings.backend != "vlm":
        for composite in captionable:
            rows.append(_composed_row(composite, captions, settings, count_tokens))
            progress.report_progress(len(rows), len(composites), composite["composite_id"])
    elif captionable:
        rows += _vlm_rows(captionable, captions, inputs, settings, count_tokens)
    return StageReport(rows, rows_in=len(composites))


def _composite_rules(
    composite: CompositeRow,
    roster: Sequence[str],
    settings: CaptionSettings,
    count_tokens: Callable[[str], int] | None,
) -> CaptionRules:
    return CaptionRules(
        roster=roster,
        style=Style(composite["style"]),
        # Each of the two captions was allowed this many words.
        max_words=2 * settings.max_words,
        max_tokens=settings.max_tokens,
        count_tokens=count_tokens,
        english=settings.language == "en",
        required_characters=(composite["character"],),
    )


def _composed_row(
    composite: CompositeRow,
    captions: Mapping[str, Caption],
    settings: CaptionSettings,
    count_tokens: Callable[[str], int] | None,
) -> Row:
    """Compose a composite's caption from the captions of its two clips."""
    name, style = composite["composite_id"], Style(composite["style"])
    character = composite["character"]
    background = captions[composite["background_clip_id"]]
    source = captions[composite["source_clip_id"]]
    try:
        caption = compose_caption(background, source, character)
    except ValueError as error:
        empty = caption_columns(name, COMPOSED, None, style)
        return row_with_reason(Reason.CAPTION_CHECK_FAILED, str(error), empty)
    roster = tuple(dict.fromkeys((*background.character_names(), character)))
    problems = find_caption_problems(
        caption, _composite_rules(composite, roster, settings, count_tokens)
    )
    actions = [(action.name, action.action) for action in source.actions]
    problems += [
        f"{character!r} acts with {other!r}, who is not in the composite"
        for other in find_absent_co_actors(actions, character, roster)
    ]
    values = caption_columns(name, COMPOSED, caption, style)
    reason = Reason.CAPTION_CHECK_FAILED if problems else None
    return row_with_reason(reason, "; ".join(problems), values)


def _vlm_rows(
    composites: Sequence[CompositeRow],
    captions: Mapping[str, Caption],
    inputs: RecaptionInputs,
    settings: CaptionSettings,
    count_tokens: Callable[[str], int] | None,
) -> list[Row]:
    """Caption composites with the model, which is given both clips' captions."""
    if inputs.prompt is None or inputs.response_cache is None:
        raise BadInput("backend vlm needs the shows, the prompt and a folder for its responses")
    captioner = VlmCaptioner(
        load_prompt_template(inputs.prompt.path), settings, inputs.response_cache
    )
    prompts = {
        show.id: build_show_prompt(show, captioner.template, settings) for show in inputs.shows
    }
    origins = {
        character.name: (show, character) for show in inputs.shows for character in show.characters
    }
    caption_tasks = []
    # Grouped by the background's show: consecutive requests start the same, and cached input costs
    # less.
    for composite in sorted(composites, key=lambda row: (row["show"], row["composite_id"])):
        prompt = prompts[composite["show"]]
        source, character = origins[composite["character"]]
        roster = tuple(dict.fromkeys((*prompt.show.roster(), character.name)))
        # Only speech quoted in one of the two captions is known to be in the composite.
        quoted = " ".join(
            render_caption(captions[clip_id])
            for clip_id in (composite["background_clip_id"], composite["source_clip_id"])
        )
        rules = _composite_rules(composite, roster, settings, count_tokens)
        caption_tasks.append(
            CaptionTask(
                composite["composite_id"],
                _message_builder(composite, prompt, source, character, captions, inputs),
                replace(rules, dialogue=quoted),
                inputs.retries.get(composite["composite_id"], 0),
            )
        )
    results = captioner.caption_all(caption_tasks, progress.report_progress)
    return [captioner.build_row(task.id, results[task.id], task.rules) for task in caption_tasks]


def _message_builder(
    composite: CompositeRow,
    prompt: ShowPrompt,
    source: ShowProfile,
    character: CharacterProfile,
    captions: Mapping[str, Caption],
    inputs: RecaptionInputs,
) -> Callable[[], tuple[ChatMessage, ...]]:
    """Return a function that builds a composite's messages; it decodes the video when called."""
    clip = ClipVideo(
        frames=composite["frames"],
        rate_num=CLIP_RATE.numerator,
        rate_den=CLIP_RATE.denominator,
        sha256=composite["sha256"],
    )

    def build_messages() -> tuple[ChatMessage, ...]:
        text = prompt.template.render(
            "composite",
            character=character.model_dump(mode="json"),
            source_title=source.title,
            source_caption=render_caption(captions[composite["source_clip_id"]]),
            background_caption=render_caption(captions[composite["background_clip_id"]]),
            **visual_input_values(prompt, clip),
        )
        in_cast = character.name in prompt.show.roster()
        return prompt.build_messages(
            *(() if in_cast else reference_parts(character, prompt)),
            TextPart(text),
            *clip_image_parts(inputs.composites.folder / composite["file"], clip, prompt),
        )

    return build_messages


STAGE = Stage(
    name="recaptions",
    title="Captions of composites",
    description="Caption each composite, naming the character that was inserted.",
    row_noun="composites",
    phase=Phase.AUGMENTATION,
    upstream=("captions", "composites"),
    resources=frozenset({Resource.CPU, Resource.NETWORK}),
    version=4,
    inputs=RecaptionInputs,
    settings=CaptionSettings,
    table=tables.CAPTIONS,
    run=run,
)
