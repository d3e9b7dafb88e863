"""Stage ``recaptions``: captions of composites.

The paper asks its captioner again, told who was pasted where: so does backend vlm. With scripts
the answer is known: the background's caption, and what the pasted character does in its own clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from mimix_core import tables
from mimix_core.domain.caption_grammar import Caption, parse, render
from mimix_core.domain.co_actors import missed
from mimix_core.domain.library import Style
from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.caption_inputs import CharacterFacts, ShowFacts
from mimix_core.stages.captions.caption_rows import columns
from mimix_core.stages.captions.caption_validation import Rules, problems
from mimix_core.stages.captions.prompt_template import read_prompt
from mimix_core.stages.captions.token_count import token_counter
from mimix_core.stages.captions.vlm_captioner import Captioning, Subject, row_of
from mimix_core.stages.captions.vlm_prompt import Briefing, brief, clip_pictures, references, shown
from mimix_core.tables import Reason, Row
from mimix_core.vlm import Message, Text

COMPOSED = "script-composed"


class RecaptionInputs(FrozenModel):
    """The composites, and the captions of all clips they were made from.

    ``shows``, ``prompt`` and ``answers`` are for backend vlm alone: the shows that the composites
    and their characters are from, the prompt file, and the folder of paid answers.
    """

    unit: Annotated[str, ExcludeFromKey()]
    composites: TableRef
    captions: tuple[TableRef, ...]
    tokenizer: FileRef | None = None
    shows: tuple[ShowFacts, ...] = ()
    prompt: FileRef | None = None
    answers: Annotated[Path | None, ExcludeFromKey()] = None


def compose(background: Caption, source: Caption, character: str) -> Caption:
    """The background's caption with the actions of ``character`` from ``source`` added.

    Place and style are the background's. Raises ValueError when the source's caption does not
    name the character.
    """
    pasted = tuple(action for action in source.actions if action.name == character)
    if not pasted:
        raise ValueError(f"the source's caption does not name {character!r}")
    return background.model_copy(update={"actions": (*background.actions, *pasted)})


def run(inputs: RecaptionInputs, settings: CaptionSettings, out: Path) -> StageReport:
    """One row per ok composite; its ``clip_id`` is the composite's id.

    Raises BadInput when the prompt is not readable or the budget is spent.
    """
    captions = {
        row["clip_id"]: parse(row["caption"])
        for ref in inputs.captions
        for row in tables.usable(tables.read(ref.path, tables.CAPTIONS))
    }
    composites = list(tables.usable(tables.read(inputs.composites.path, tables.COMPOSITES)))
    counter = token_counter(inputs.tokenizer.path) if inputs.tokenizer is not None else None
    backend = COMPOSED if settings.backend == "script" else f"vlm/{settings.vlm.backend}"
    rows, known = [], []
    for composite in composites:
        sources = (composite["background_clip_id"], composite["source_clip_id"])
        missing = [clip_id for clip_id in sources if clip_id not in captions]
        if missing:
            empty = columns(composite["composite_id"], backend, None, Style(composite["style"]))
            detail = f"no caption of {' and '.join(missing)}"
            rows.append(row_of(Reason.UPSTREAM_FAILED, detail, empty))
        else:
            known.append(composite)
    if settings.backend == "script":
        for composite in known:
            rows.append(_composed(composite, captions, settings, counter))
            progress.advance(len(rows), len(composites), composite["composite_id"])
    elif known:
        rows += _asked(known, captions, inputs, settings, counter)
    return StageReport(rows, rows_in=len(composites))


def _rules(
    composite: Row,
    roster: Sequence[str],
    settings: CaptionSettings,
    counter: Callable[[str], int] | None,
) -> Rules:
    return Rules(
        roster=roster,
        style=Style(composite["style"]),
        # Two captions that were each allowed this many words.
        max_words=2 * settings.max_words,
        max_tokens=settings.max_tokens,
        count_tokens=counter,
        english=settings.language == "en",
        wanted=(composite["character"],),
    )


def _composed(
    composite: Row,
    captions: Mapping[str, Caption],
    settings: CaptionSettings,
    counter: Callable[[str], int] | None,
) -> Row:
    name, style, character = (
        composite["composite_id"],
        Style(composite["style"]),
        composite["character"],
    )
    background = captions[composite["background_clip_id"]]
    source = captions[composite["source_clip_id"]]
    try:
        caption = compose(background, source, character)
    except ValueError as error:
        empty = columns(name, COMPOSED, None, style)
        return row_of(Reason.CAPTION_CHECK_FAILED, str(error), empty)
    roster = tuple(dict.fromkeys((*background.names(), character)))
    wrong = problems(caption, _rules(composite, roster, settings, counter))
    actions = [(action.name, action.action) for action in source.actions]
    wrong += [
        f"{character!r} acts with {other!r}, who is not in the picture"
        for other in missed(actions, character, roster)
    ]
    values = columns(name, COMPOSED, caption, style)
    return row_of(Reason.CAPTION_CHECK_FAILED if wrong else None, "; ".join(wrong), values)


def _asked(
    composites: Sequence[Row],
    captions: Mapping[str, Caption],
    inputs: RecaptionInputs,
    settings: CaptionSettings,
    counter: Callable[[str], int] | None,
) -> list[Row]:
    """Rows of composites that the model was shown, told what was put where."""
    if inputs.prompt is None or inputs.answers is None:
        raise BadInput("backend vlm needs the shows, the prompt and a folder for its answers")
    asker = Captioning(read_prompt(inputs.prompt.path), settings, inputs.answers)
    briefings = {show.id: brief(show, asker.prompt, settings) for show in inputs.shows}
    owners = {
        character.name: (show, character) for show in inputs.shows for character in show.characters
    }
    subjects = []
    # Composites of one background's show follow one another: the provider knows their beginning.
    for composite in sorted(composites, key=lambda row: (row["show"], row["composite_id"])):
        briefing = briefings[composite["show"]]
        source, character = owners[composite["character"]]
        roster = tuple(dict.fromkeys((*briefing.show.roster(), character.name)))
        # Speech that neither of its two captions quotes, nobody said.
        quoted = " ".join(
            render(captions[composite[name]]) for name in ("background_clip_id", "source_clip_id")
        )
        subjects.append(
            Subject(
                composite["composite_id"],
                _messages(composite, briefing, source, character, captions, inputs),
                replace(_rules(composite, roster, settings, counter), said=quoted),
            )
        )
    told = asker.captions(subjects, progress.advance)
    return [asker.row(one.id, told[one.id], one.rules) for one in subjects]


def _messages(
    composite: Row,
    briefing: Briefing,
    source: ShowFacts,
    character: CharacterFacts,
    captions: Mapping[str, Caption],
    inputs: RecaptionInputs,
) -> Callable[[], tuple[Message, ...]]:
    clip = {**composite, "rate_num": CLIP_RATE.numerator, "rate_den": CLIP_RATE.denominator}

    def messages() -> tuple[Message, ...]:
        text = briefing.prompt.text(
            "composite",
            character=character.model_dump(mode="json"),
            source_title=source.title,
            source_caption=render(captions[composite["source_clip_id"]]),
            background_caption=render(captions[composite["background_clip_id"]]),
            **shown(briefing, clip),
        )
        known = character.name in briefing.show.roster()
        return briefing.messages(
            *(() if known else references(character, briefing)),
            Text(text),
            *clip_pictures(inputs.composites.folder / composite["file"], clip, briefing),
        )

    return messages


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
