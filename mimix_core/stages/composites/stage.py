"""Stage ``composites``: sample pairs of cutouts and backgrounds, place and render them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2

from mimix_core import tables
from mimix_core.domain.library import Style
from mimix_core.domain.splits import composite_count
from mimix_core.engine import progress
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.media import EncodeFailed, VerificationFailed
from mimix_core.media.opencv_threads import opencv_single_thread
from mimix_core.settings import CompositeSettings
from mimix_core.stages.composites.composite_rows import (
    base_columns,
    build_candidate,
    build_clip_geometry,
    build_composite_row,
    build_cutout_boxes,
)
from mimix_core.stages.composites.composite_sources import (
    CompositeInputs,
    CompositeSources,
    load_sources,
)
from mimix_core.stages.composites.compositing import PasteOptions
from mimix_core.stages.composites.earlier_renders import (
    PairToRender,
    RenderReuse,
    load_earlier_renders,
)
from mimix_core.stages.composites.pairing import (
    PairSampler,
    is_same_style_rank,
    same_style_count,
)
from mimix_core.stages.composites.placement import PlacementConstraints
from mimix_core.stages.composites.placement_search import PairPlacer, PlacedPair, RejectedPair
from mimix_core.stages.composites.render_composite import EncodingOptions
from mimix_core.stages.composites.stored_rows import LazyMapping, StoredClip, StoredCutout
from mimix_core.tables import CutoutRow, Reason, Row

_MAX_CONSECUTIVE_FAILURES = 32
"""After so many failures in a row the cause is not the clips: the stage stops rendering."""


def run(inputs: CompositeInputs, settings: CompositeSettings, out: Path) -> StageReport:
    """Write one row per pair that was tried, and one per ok cutout without a tried pair.

    The notes say how many composites the ratio needs, how many pairs were tried and how many
    composites were made: there can be fewer pairs than needed.
    """
    sources = load_sources(inputs, settings)
    wanted = composite_count(len(sources.train_clips), Fraction(settings.ratio))
    share = Fraction(settings.same_style_share)
    same_style_wanted = same_style_count(wanted, share)
    usable = sum(sources.is_pasted(name, settings) for name in sources.cutouts)
    max_uses = {
        same_style: _share_of_cutout(count, usable)
        for same_style, count in ((False, wanted - same_style_wanted), (True, same_style_wanted))
    }
    for folder in ("videos", "sheets"):
        (out / folder).mkdir()
    renders = RenderReuse(STAGE.version, load_earlier_renders(inputs.earlier_results), out)
    with ThreadPoolExecutor(settings.workers) as pool, opencv_single_thread():
        placer = _create_placer(sources, settings, pool)
        renderers = {
            same_style: _CompositeRenderer(
                sources,
                settings,
                out,
                pool,
                placer,
                renders,
                same_style=same_style,
                max_uses=max_uses[same_style],
                total=wanted,
            )
            for same_style in (False, True)
        }
        renderers[False].render_until(wanted - same_style_wanted)
        renderers[True].render_until(same_style_wanted)
    rendered = {same_style: renderer.ok_rows for same_style, renderer in renderers.items()}
    rows = _rank_composites(rendered, share, out)
    renders.write_list()
    rows += renderers[False].other_rows + renderers[True].other_rows
    tried = renderers[False].tried + renderers[True].tried
    missing = wanted - same_style_wanted - len(rendered[False])
    rows += [
        _untried_row(name, sources, settings, missing=missing, gave_up=renderers[False].gave_up)
        for name in sources.cutouts
        if not tried[name]
    ]
    originals = len(sources.train_clips)
    ok_rows = [row for row in rows if row["status"] == tables.Status.OK]
    notes = {
        "originals": originals,
        "wanted": wanted,
        "tried": tried.total(),
        "made": len(ok_rows),
        "placebos": sum(row["style"] == row["character_style"] for row in ok_rows),
        "usable_cutouts": usable,
        "max_uses": max(max_uses.values()),
        "most_used": max(Counter(row["cutout_id"] for row in ok_rows).values(), default=0),
        "share": round(len(ok_rows) / max(len(ok_rows) + originals, 1), 6),
    }
    # A cutout counts once, or as often as it is tried.
    return StageReport(rows, sum(max(1, tried[name]) for name in sources.cutouts), notes)


def _share_of_cutout(count: int, usable: int) -> int:
    """Return how often a cutout may be used in ``count`` composites of ``usable`` cutouts."""
    return max(1, -(-count // max(usable, 1)))


def _create_placer(
    sources: CompositeSources, settings: CompositeSettings, pool: Executor
) -> PairPlacer:
    return PairPlacer(
        LazyMapping(
            sources.train_clips,
            lambda clip_id: build_clip_geometry(
                sources.train_clips[clip_id], sources.cutouts_of_clips.get(clip_id, ())
            ),
        ),
        LazyMapping(sources.cutouts, lambda name: build_cutout_boxes(sources.cutouts[name])),
        PlacementConstraints(
            settings.min_height, settings.max_height, settings.max_occlusion, settings.min_ground
        ),
        seed=settings.seed,
        pool=pool,
    )


class _CompositeRenderer:
    """Render composites of one kind (same style or opposite style) in the sampled order.

    ``ok_rows``: rendered composites. ``other_rows``: rejected and failed pairs. ``tried``: number
    of tried pairs by cutout.
    """

    def __init__(
        self,
        sources: CompositeSources,
        settings: CompositeSettings,
        out: Path,
        pool: Executor,
        placer: PairPlacer,
        renders: RenderReuse,
        *,
        same_style: bool,
        max_uses: int,
        total: int,
    ) -> None:
        self._sources, self._settings, self._out, self._pool = sources, settings, out, pool
        self._renders, self._total = renders, total
        self.ok_rows: list[Row] = []
        self.other_rows: list[Row] = []
        self.tried: Counter[str] = Counter()
        self._failures = self._unreadable = 0
        sampler = PairSampler(
            [
                build_candidate(cutout)
                for name, cutout in sources.cutouts.items()
                if sources.is_pasted(name, settings)
            ],
            sources.backgrounds,
            seed=settings.seed,
            same_style=same_style,
            held_out_pairs=settings.held_out_pairs,
            max_uses=max_uses,
        )
        self._outcomes = placer.place_pairs(sampler)

    def render_until(self, count: int) -> None:
        """Render until there are ``count`` composites, no pairs are left, or rendering gives up."""
        while len(self.ok_rows) < count and not self.gave_up:
            pairs = list(islice(self._placed_pairs(), count - len(self.ok_rows)))
            if not pairs:
                return
            for row in self._pool.map(self._render, pairs):
                ok = row["status"] == tables.Status.OK
                (self.ok_rows if ok else self.other_rows).append(row)
                self._failures = 0 if ok else self._failures + 1
                progress.report_progress(len(self.ok_rows), self._total, row["composite_id"])

    @property
    def gave_up(self) -> bool:
        """Whether too many consecutive composites failed."""
        return max(self._failures, self._unreadable) >= _MAX_CONSECUTIVE_FAILURES

    def _placed_pairs(self) -> Iterator[PlacedPair]:
        for outcome in self._outcomes:
            self.tried[outcome.pair.cutout_id] += 1
            if isinstance(outcome, RejectedPair):
                self.other_rows.append(self._rejected_row(outcome))
                is_unreadable = outcome.reason is Reason.RENDER_FAILED
                self._unreadable = self._unreadable + 1 if is_unreadable else 0
                if self.gave_up:
                    return
                continue
            self._unreadable = 0
            values = base_columns(*self._pair_sources(outcome))
            if values["composite_id"] in self._sources.vetoes:
                # It counts as a use, so that the other pairs of the plan stay the same.
                row = tables.rejected(Reason.LEFT_OUT_BY_HAND, "left out by hand", **values)
                self.other_rows.append(row)
            else:
                yield outcome

    def _rejected_row(self, rejected: RejectedPair) -> Row:
        cutout, source, background = self._pair_sources(rejected)
        values = base_columns(cutout, source, background)
        if rejected.reason is Reason.RENDER_FAILED:
            return tables.failed(rejected.reason, rejected.detail, **values)
        return tables.rejected(rejected.reason, rejected.detail, **values)

    def _render(self, placed: PlacedPair) -> Row:
        cutout, source, background = self._pair_sources(placed)
        settings = self._settings
        values = base_columns(cutout, source, background)
        name = values["composite_id"]
        video, sheet = f"videos/{name}.mp4", f"sheets/{name}.jpg"
        try:
            self._renders.render(
                PairToRender(
                    source,
                    cutout,
                    background,
                    placed.placement.path,
                    self._paste_options(cutout.row),
                    EncodingOptions(settings.crf, settings.preset),
                ),
                video,
                sheet,
            )
        except (BadInput, EncodeFailed, VerificationFailed, ValueError, cv2.error) as error:
            # A composite that raises an error must not fail the others.
            return tables.failed(Reason.RENDER_FAILED, str(error), **values)
        return build_composite_row(values, placed, self._out, video, sheet)

    def _paste_options(self, cutout: CutoutRow) -> PasteOptions:
        # A figure that the frame cuts off at the bottom has no ground contact in the image.
        grounded = "bottom" not in cutout["border"]
        return PasteOptions(feather=self._settings.feather, shadow=self._settings.shadow * grounded)

    def _pair_sources(
        self, outcome: PlacedPair | RejectedPair
    ) -> tuple[StoredCutout, StoredClip, StoredClip]:
        """Return the cutout, its clip and the background clip of a pair."""
        cutout = self._sources.cutouts[outcome.pair.cutout_id]
        train_clips = self._sources.train_clips
        background = train_clips[outcome.pair.background_id]
        return cutout, train_clips[cutout.clip_id], background


def _rank_composites(rendered: Mapping[bool, list[Row]], share: Fraction, out: Path) -> list[Row]:
    """Rank the rendered composites so that the first n of any n have the same-style ``share``.

    ``rendered``: by whether they are of the same style. When one kind runs out the ranking ends:
    the remaining composites of the other kind are rejected and their files deleted.
    """
    queues = {same_style: iter(rows) for same_style, rows in rendered.items()}
    ranked: list[Row] = []
    while (row := next(queues[is_same_style_rank(len(ranked), share)], None)) is not None:
        ranked.append(row | {"rank": len(ranked)})
    for row in (row for queue in queues.values() for row in queue):
        for file in ("file", "sheet_file"):
            (out / row[file]).unlink()
        detail = "the share of same-style composites is met without it"
        empty = {"rank": -1, "file": "", "sheet_file": "", "sha256": ""}
        ranked.append(row | tables.rejected(Reason.NOT_NEEDED_FOR_RATIO, detail, **empty))
    return ranked


def _untried_row(
    name: str,
    sources: CompositeSources,
    settings: CompositeSettings,
    *,
    missing: int,
    gave_up: bool,
) -> Row:
    """Build the row of a cutout without a tried pair, with the reason.

    ``missing``: number of composites that the ratio still lacks.
    """
    cutout = sources.cutouts[name]
    values = base_columns(cutout, sources.clips[cutout.clip_id], None)
    if name in sources.vetoes:
        return tables.rejected(Reason.LEFT_OUT_BY_HAND, "its mask was left out by hand", **values)
    if cutout.clip_id in sources.vetoes:
        return tables.rejected(Reason.LEFT_OUT_BY_HAND, "its clip was left out by hand", **values)
    if cutout.clip_id not in sources.train_clips:
        detail = "its episode is not in the training split"
        return tables.rejected(Reason.HELD_OUT, detail, **values)
    partners = sources.absent_partners.get(name)
    if settings.solo_actions_only and partners:
        detail = f"its caption has it act with {' and '.join(partners)}"
        return tables.rejected(Reason.ACTS_WITH_OTHERS, detail, **values)
    if things := sources.absent_things.get(name):
        detail = (
            f"its caption says only what it does with {', '.join(map(repr, things))}, which the "
            "cutout lacks"
        )
        return tables.rejected(Reason.ACTS_WITH_THINGS, detail, **values)
    opposite = Style(cutout.style).opposite
    if not any(background.style is opposite for background in sources.backgrounds):
        located = ""
        if settings.require_located_characters:
            located = " of which all named characters were located"
        detail = f"no {opposite.value} clip to paste onto{located}"
        return tables.rejected(Reason.NO_BACKGROUND, detail, **values)
    if missing > 0 and gave_up:
        detail = (
            f"not tried, for {_MAX_CONSECUTIVE_FAILURES} composites in a row could not be rendered"
        )
        return tables.failed(Reason.RENDER_FAILED, detail, **values)
    if missing > 0:
        detail = f"all {opposite.value} clips to paste onto name {cutout.character} already"
        return tables.rejected(Reason.NO_BACKGROUND, detail, **values)
    detail = "the ratio is met without it"
    return tables.rejected(Reason.NOT_NEEDED_FOR_RATIO, detail, **values)


STAGE = Stage(
    name="composites",
    title="Composites",
    description="Paste characters into scenes of the opposite style.",
    row_noun="composites, and unused cutouts",
    phase=Phase.AUGMENTATION,
    upstream=("duplicates", "captions", "cutouts"),
    version=6,
    inputs=CompositeInputs,
    settings=CompositeSettings,
    table=tables.COMPOSITES,
    run=run,
)
