"""Stage ``recaptions``: caption composites.

The paper asks its captioner again, with the information which character was inserted; so does
backend vlm. With scripts the caption follows from two others: the background's caption, and the
actions of the inserted character in its own clip.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mimix_core import tables
from mimix_core.domain.caption_grammar import (
    Caption,
    CharacterAction,
    parse_caption,
    render_caption,
)
from mimix_core.domain.co_actors import find_absent_co_actors
from mimix_core.domain.guest_actions import reduce_guest_action
from mimix_core.domain.library import Style
from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.caption_inputs import CharacterProfile, ShowProfile
from mimix_core.stages.captions.caption_rows import caption_columns, row_with_reason
from mimix_core.stages.captions.caption_validation import CaptionRules, find_caption_problems
from mimix_core.stages.captions.hand_captions import hand_caption_row
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
    composite_id -> how often a person wanted another response of the model. ``overrides``:
    composite_id -> caption written by hand. ``names``: by show of a composite with such a caption,
    the character of each casefolded name and alias. ``guest_props``: as in ``CompositeSettings``.
    ``frame_rate``: of the composites.
    """

    unit: Annotated[str, ExcludeFromKey()]
    composites: TableRef
    captions: tuple[TableRef, ...]
    tokenizer: FileRef | None = None
    shows: tuple[ShowProfile, ...] = ()
    prompt: FileRef | None = None
    response_cache: Annotated[Path | None, ExcludeFromKey()] = None
    retries: dict[str, int] = Field(default_factory=dict)
    overrides: dict[str, str] = Field(default_factory=dict)
    names: dict[str, dict[str, str]] = Field(default_factory=dict)
    guest_props: Literal["drop", "ask", "keep"] = "drop"
    frame_rate: Annotated[int, OmitDefault()] = int(CLIP_RATE)


class MissingThings(ValueError):
    """The character's actions name things that were not pasted; ``str`` says which."""


def compose_caption(
    background: Caption, source: Caption, character: str, guest_props: str = "drop"
) -> Caption:
    """Add the actions of ``character`` in ``source`` to the background's caption.

    Context and style are the background's. Raises ValueError when the source's caption does not
    name the character, and MissingThings when its actions are about things that were not pasted:
    with ``drop`` when nothing else remains of them, with ``ask`` when they name any.
    """
    if character not in source.character_names():
        raise ValueError(f"the source's caption does not name {character!r}")
    present = {*background.character_names(), character}
    inserted, props = guest_actions(source, character, present)
    if guest_props == "keep":
        inserted = tuple(action for action in source.actions if action.name == character)
    elif props and (guest_props == "ask" or not inserted):
        named = ", ".join(repr(prop) for prop in props)
        raise MissingThings(
            f"the action of {character!r} names what was not pasted: {named}. Write the caption "
            "by hand (mimix captions import), or set composites.guest_props"
        )
    return background.model_copy(update={"actions": (*background.actions, *inserted)})


def guest_actions(
    source: Caption, character: str, present: Collection[str]
) -> tuple[tuple[CharacterAction, ...], tuple[str, ...]]:
    """Return the actions of ``character`` without what was not pasted, and what that is."""
    reduced = [
        reduce_guest_action(action.action, present)
        for action in source.actions
        if action.name == character
    ]
    texts = dict.fromkeys(action.text for action in reduced if action.text)
    props = dict.fromkeys(prop for action in reduced for prop in action.props)
    return tuple(CharacterAction(name=character, action=text) for text in texts), tuple(props)


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
    written = [row for row in composites if row["composite_id"] in inputs.overrides]
    backend = COMPOSED if settings.backend != "vlm" else f"vlm/{settings.vlm.backend}"
    rows = [_hand_row(composite, inputs, settings, count_tokens) for composite in written]
    captionable = []
    for composite in composites:
        if composite["composite_id"] in inputs.overrides:
            continue
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
            rows.append(
                _composed_row(composite, captions, settings, count_tokens, inputs.guest_props)
            )
            progress.report_progress(len(rows), len(composites), composite["composite_id"])
    elif captionable:
        rows += _vlm_rows(captionable, captions, inputs, settings, count_tokens)
    return StageReport(rows, rows_in=len(composites))


def composite_rules(
    composite: CompositeRow,
    roster: Sequence[str],
    settings: CaptionSettings,
    count_tokens: Callable[[str], int] | None,
) -> CaptionRules:
    """Return the rules for a composite's caption. ``roster``: the names that may act."""
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


def _hand_row(
    composite: CompositeRow,
    inputs: RecaptionInputs,
    settings: CaptionSettings,
    count_tokens: Callable[[str], int] | None,
) -> Row:
    """Return the row of a composite's caption that a person wrote."""
    name, character = composite["composite_id"], composite["character"]
    names = {**inputs.names.get(composite["show"], {}), character.casefold(): character}
    roster = tuple(dict.fromkeys(names.values()))
    rules = composite_rules(composite, roster, settings, count_tokens)
    return hand_caption_row(name, inputs.overrides[name], rules, names)


def _composed_row(
    composite: CompositeRow,
    captions: Mapping[str, Caption],
    settings: CaptionSettings,
    count_tokens: Callable[[str], int] | None,
    guest_props: str,
) -> Row:
    """Compose a composite's caption from the captions of its two clips."""
    name, style = composite["composite_id"], Style(composite["style"])
    character = composite["character"]
    background = captions[composite["background_clip_id"]]
    source = captions[composite["source_clip_id"]]
    roster = tuple(dict.fromkeys((*background.character_names(), character)))
    actions = [(action.name, action.action) for action in source.actions]
    absent = [
        f"{character!r} acts with {other!r}, who is not in the composite"
        for other in find_absent_co_actors(actions, character, roster)
    ]
    try:
        caption = compose_caption(background, source, character, guest_props)
    except MissingThings as error:
        empty = caption_columns(name, COMPOSED, None, style)
        if absent:
            return row_with_reason(Reason.CAPTION_CHECK_FAILED, "; ".join(absent), empty)
        return row_with_reason(Reason.ACTS_WITH_THINGS, str(error), empty)
    except ValueError as error:
        empty = caption_columns(name, COMPOSED, None, style)
        return row_with_reason(Reason.CAPTION_CHECK_FAILED, str(error), empty)
    problems = find_caption_problems(
        caption, composite_rules(composite, roster, settings, count_tokens)
    )
    problems += absent
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
        rules = composite_rules(composite, roster, settings, count_tokens)
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
        rate_num=inputs.frame_rate,
        rate_den=1,
        sha256=composite["sha256"],
    )

    def build_messages() -> tuple[ChatMessage, ...]:
        text = prompt.template.render(
            "composite",
            character=character.model_dump(mode="json"),
            source_title=source.title,
            source_caption=_source_caption(composite, captions, inputs.guest_props),
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


def _source_caption(
    composite: CompositeRow, captions: Mapping[str, Caption], guest_props: str
) -> str:
    """Return what the model is told about the character's own clip.

    Unless ``keep``, only what was pasted: things of the other scene would be repeated.
    """
    source = captions[composite["source_clip_id"]]
    present = {*captions[composite["background_clip_id"]].character_names()}
    actions, props = guest_actions(source, composite["character"], present)
    if guest_props == "keep" or not props:
        return render_caption(source)
    if not actions:
        return "what was done there needs things that are not in this clip"
    return render_caption(source.model_copy(update={"actions": actions, "context": ""}))


STAGE = Stage(
    name="recaptions",
    title="Captions of composites",
    description="Caption each composite, naming the character that was inserted.",
    row_noun="composites",
    phase=Phase.AUGMENTATION,
    upstream=("captions", "composites"),
    resources=frozenset({Resource.CPU, Resource.NETWORK}),
    version=5,
    inputs=RecaptionInputs,
    settings=CaptionSettings,
    table=tables.CAPTIONS,
    run=run,
)
