"""Tasks ``composites`` and ``recaptions``: paste characters into other scenes and caption them."""

from collections.abc import Sequence
from typing import Literal

from mimix_core.domain.character_names import alias_map
from mimix_core.engine.artifacts import TableRef
from mimix_core.stages.captions.recaption import RecaptionInputs
from mimix_core.stages.composites.composite_sources import CompositeInputs
from mimix_core.tables import COMPOSITES, read, usable
from tasks.base import Run, stage_task
from tasks.captions import (
    build_show_profile,
    caption_model_inputs,
    load_caption_overrides,
    load_retries,
    tokenizer_file,
)
from tasks.decisions import load_vetoes

composites_task = stage_task("composites")
recaptions_task = stage_task("recaptions")

_EPISODES: tuple[Literal["source_episode_id", "background_episode_id"], ...] = (
    "source_episode_id",
    "background_episode_id",
)
"""Columns with the episodes that a composite was made from."""


def make_composites(
    run: Run,
    clips: Sequence[TableRef],
    captions: Sequence[TableRef],
    cutouts: Sequence[TableRef],
) -> TableRef:
    """Make composites; one table over all episodes, since pairing depends on all of them."""
    config = run.workspace.config
    # An episode without captioned clips contributes nothing: adding it must not change the key.
    # Nor does a crossover, whose guests are not in the style of the show.
    used = [
        (episode, clip_table, caption_table, cutout_table)
        for episode, clip_table, caption_table, cutout_table in zip(
            run.workspace.episodes, clips, captions, cutouts, strict=True
        )
        if clip_table.counts.ok and caption_table.counts.ok and not episode.show.guests
    ]
    _, by_hand, _ = load_caption_overrides(run.workspace)
    inputs = CompositeInputs(
        unit="all",
        clips=tuple(one[1] for one in used),
        captions=tuple(one[2] for one in used),
        cutouts=tuple(one[3] for one in used),
        split=config.dataset,
        vetoes=tuple(
            sorted(
                {name for name, caption in by_hand.items() if not caption}
                | {*load_vetoes(run.workspace)}
            )
        ),
        groups=run.workspace.split_groups({one[0].id for one in used}),
        earlier_results=run.workspace.store.root / str(composites_task.name),
    )
    table = run.run_single(composites_task, inputs, config.composites)
    if run.computes:
        _warn_about_uses(run, table)
    return table


def _warn_about_uses(run: Run, table: TableRef) -> None:
    """Warn when there are too few cutouts for the composites wanted."""
    notes = run.workspace.store.record(table).notes
    wanted, made = int(notes["wanted"]), int(notes["made"])
    usable, most = int(notes["usable_cutouts"]), int(notes["most_used"])
    if made < wanted:
        run.console.warn(
            f"composites: {made} of {wanted} were made from {usable} usable cutouts, each used "
            f"{notes['max_uses']} times at most; `mimix why composites` lists the reasons"
        )
    elif most > 1 and 2 * most > made:
        run.console.warn(
            f"composites: one cutout is in {most} of {made}, for only {usable} can be used; more "
            "cutouts or a lower composites.ratio give variety"
        )


def caption_composites(run: Run, composites: TableRef, captions: Sequence[TableRef]) -> TableRef:
    """Caption every composite; one table."""
    rows = list(usable(read(composites.path, COMPOSITES)))
    episodes = {row[side] for row in rows for side in _EPISODES}
    characters = {row["character"] for row in rows}
    model_inputs = caption_model_inputs(run.workspace)
    shows = [
        show
        for show in run.workspace.library.shows
        if any(e.id in episodes for e in run.workspace.episodes if e.show.id == show.id)
        or characters.intersection(show.roster())
    ]
    if model_inputs:
        model_inputs["shows"] = tuple(
            build_show_profile(run.workspace.store, show) for show in shows
        )
    _, by_hand, _ = load_caption_overrides(run.workspace)
    written = {
        row["composite_id"]: by_hand[row["composite_id"]]
        for row in rows
        if by_hand.get(row["composite_id"])
    }
    shows_with_hand = {row["show"] for row in rows if row["composite_id"] in written}
    inputs = RecaptionInputs(
        unit="all",
        composites=composites,
        # Only of the episodes that composites were made from.
        captions=tuple(
            table
            for episode, table in zip(run.workspace.episodes, captions, strict=True)
            if episode.id in episodes
        ),
        tokenizer=tokenizer_file(run.workspace),
        retries=load_retries(run.workspace, "recaptions"),
        overrides=written,
        names={
            show.id: alias_map(show.roster(), show.aliases())
            for show in shows
            if show.id in shows_with_hand
        },
        guest_props=run.workspace.config.composites.guest_props,
        frame_rate=run.workspace.config.clips.frame_rate,
        **model_inputs,
    )
    return run.run_single(recaptions_task, inputs, run.workspace.config.captions.effective())
