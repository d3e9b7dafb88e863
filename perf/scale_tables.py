"""How time and memory grow with the number of clips, for what processes all clips at once.

``python perf/scale_tables.py`` writes synthetic tables (``perf/synthetic_library.py``) of a few
sizes and runs each part over them, each in a process of its own: seconds, peak memory and the
growth exponent of the seconds of CPU (the slope over all sizes, both as logarithms), which other
work on the machine hardly affects. ``--clips N ...`` measures other sizes, ``--only PART ...`` some
parts; figures that were not measured again stay, and each part's are written when it ends.
5,200,000 clips are measured on request only: ``--clips 5200000 --folder FOLDER`` (about 40 GB; the
tables stay there for a next time).
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core import tables
from mimix_core.domain.caption_grammar import parse_caption
from mimix_core.domain.library import Style
from mimix_core.domain.splits import composite_count
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.settings import (
    CompositeSettings,
    DatasetSettings,
    DuplicateSettings,
    ReportSettings,
)
from mimix_core.stages.captions.caption_review import review_captions
from mimix_core.stages.captions.caption_validation import CaptionRules
from mimix_core.stages.composites.composite_rows import build_candidate
from mimix_core.stages.composites.composite_sources import load_sources
from mimix_core.stages.composites.pairing import PairSampler
from mimix_core.stages.dataset.stage import STAGE as DATASET
from mimix_core.stages.duplicates.stage import STAGE as DUPLICATES
from mimix_core.stages.duplicates.stage import DuplicateInputs
from mimix_core.stages.report.report_inputs import ReportInputs
from mimix_core.stages.report.report_page import open_run_tables
from mimix_core.stages.report.stage import STAGE as REPORT
from mimix_core.studio.index_file import write_index
from mimix_core.studio.studio_items import ItemReader
from mimix_core.tables import CaptionRow
from perf.record import RESULTS, commit, record
from perf.synthetic_library import (
    SyntheticLibrary,
    composite_inputs,
    dataset_inputs,
    studio_refs,
    write_library,
)

SIZES = (5_200, 52_000, 520_000)
WHOLE = 5_200_000
PLANNING = ("planning", "manifest")
"""The parts of dataset planning: the plan of composites, then ratio, split and table."""

RATIO = Decimal("0.1")


def plan_composites(library: SyntheticLibrary, _out: Path) -> int:
    """Load what composites are planned from, and sample all pairs that the ratio needs."""
    settings = CompositeSettings(ratio=RATIO)
    sources = load_sources(composite_inputs(library), settings)
    wanted = composite_count(len(sources.train_clips), Fraction(RATIO))
    sampler = PairSampler(
        [
            build_candidate(cutout)
            for name, cutout in sources.cutouts.items()
            if sources.is_pasted(name, settings)
        ],
        sources.backgrounds,
        seed=settings.seed,
    )
    made = 0
    while made < wanted and (pairs := sampler.next_pairs(min(16, wanted - made))):
        made += len(pairs)
    return made


def write_manifest(library: SyntheticLibrary, out: Path) -> int:
    """Run the stage dataset: splits, ratio, table and card, committed to a store."""
    settings = DatasetSettings(ratio=RATIO)
    return run_stage(Store(out), DATASET, dataset_inputs(library), settings).ref.counts.ok


def find_duplicates(library: SyntheticLibrary, out: Path) -> int:
    """Run the stage duplicates."""
    inputs = DuplicateInputs(unit="all", clips=library.clips)
    return run_stage(Store(out), DUPLICATES, inputs, DuplicateSettings()).ref.counts.ok


def write_report(library: SyntheticLibrary, out: Path) -> int:
    """Run the stage report, and select what it would show.

    There is no footage behind the tables: the page has no previews.
    """
    inputs = ReportInputs(
        title="Scale",
        shows=(),
        records=(),
        clips=library.clips,
        transcripts=library.transcripts,
        captions=library.captions,
        cutouts=library.cutouts,
        composites=library.composites,
        recaptions=library.recaptions,
    )
    settings = ReportSettings(
        max_clips_shown=0, max_cutouts_shown=0, max_composites_shown=0, max_samples_shown=0
    )
    pages = run_stage(Store(out), REPORT, inputs, settings).ref.counts.ok
    shown, run = ReportSettings(), open_run_tables(inputs)
    clips = run.clips.select(shown.max_clips_shown, "show", "episode_id")
    names = [clip.row["clip_id"] for clip in clips]
    found = [
        *run.captions.find("clip_id", names),
        *run.cutouts.select(shown.max_cutouts_shown, "character"),
        *run.composites.select(shown.max_composites_shown, "character", "show"),
    ]
    return pages + len(found)


def index_studio(library: SyntheticLibrary, out: Path) -> int:
    """Write the index of the studio, without cutouts: their records are not synthetic."""
    path = out / "index.sqlite"
    write_index(path, ItemReader(library.store.root.resolve(), studio_refs(library)).items(), {})
    return path.stat().st_size


def check_captions(library: SyntheticLibrary, _out: Path) -> int:
    """Check all captions of clips and composites, table by table as ``mimix captions check``."""

    def rules_for(row: CaptionRow) -> CaptionRules:
        names = parse_caption(row["caption"]).character_names()
        return CaptionRules(roster=names, style=Style(row["style"]), max_words=150)

    return sum(
        review_captions(
            tables.read(ref.path, tables.CAPTIONS), rules_for, identical_caption_warning_count=10**9
        ).checked
        for ref in chain(library.captions, (library.recaptions,))
    )


PARTS: dict[str, Callable[[SyntheticLibrary, Path], int]] = {
    "planning": plan_composites,
    "manifest": write_manifest,
    "duplicates": find_duplicates,
    "report": write_report,
    "studio": index_studio,
    "captions": check_captions,
}


def run_part(part: str, root: Path, clips: int) -> None:
    """Run one part in this process, and print its seconds, peak memory and result as JSON."""
    library = write_library(root, clips)
    with tempfile.TemporaryDirectory(prefix="mimix-scale-", dir=root) as out:
        started, busy = time.perf_counter(), time.process_time()
        result = PARTS[part](library, Path(out))
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - busy
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    found = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_gb": peak_gb, "result": result}
    print(json.dumps(found))


def measure(part: str, root: Path, clips: int) -> dict[str, float]:
    command = [
        sys.executable,
        __file__,
        "--run",
        part,
        "--folder",
        str(root),
        "--clips",
        str(clips),
    ]
    # BLAS threads that wait for each other on a busy machine use CPU as well.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, check=False, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{part} over {clips} clips ended with {done.returncode}:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{part} {clips:,}: {found['seconds']:.1f} s, {found['peak_gb']:.2f} GB", flush=True)
    return found


def growth_exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the slope of the CPU seconds over the sizes, both as logarithms (least squares)."""
    x, y = ([math.log(value) for value in values] for values in (sizes, seconds))
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True))
    return above / sum((a - middle_x) ** 2 for a in x)


def measure_all(parts: Sequence[str], sizes: Sequence[int], folder: Path) -> None:
    """Measure the parts over all sizes, and record the figures of each as soon as it ends."""
    for clips in sizes:
        root = folder / str(clips)
        subprocess.run(
            [sys.executable, __file__, "--write", "--folder", str(root), "--clips", str(clips)],
            check=True,
        )
        for part in parts:
            found = measure(part, root, clips)
            record_figures(
                {
                    f"seconds_{part}_{clips}": round(found["seconds"], 2),
                    f"cpu_seconds_{part}_{clips}": round(found["cpu_seconds"], 2),
                    f"peak_gb_{part}_{clips}": round(found["peak_gb"], 3),
                }
            )


def summarize(figures: dict[str, float]) -> dict[str, float]:
    """Return the figures with the exponents of the parts, and with those over all parts."""
    exponents = []
    for part in PARTS:
        start = f"cpu_seconds_{part}_"
        sizes = sorted(int(name.removeprefix(start)) for name in figures if name.startswith(start))
        if len(sizes) > 1:
            seconds = [figures[f"{start}{clips}"] for clips in sizes]
            exponents.append(round(growth_exponent(sizes, seconds), 3))
            figures[f"growth_exponent_{part}"] = exponents[-1]
    if exponents:
        figures["growth_exponent"] = max(exponents)
    whole = [figures.get(f"seconds_{part}_{WHOLE}") for part in PLANNING]
    measured = [value for value in whole if value is not None]
    if len(measured) == len(PLANNING):
        figures["minutes_5m"] = round(sum(measured) / 60, 2)
        figures["peak_gb_5m"] = max(figures[f"peak_gb_{part}_{WHOLE}"] for part in PLANNING)
    return figures


def unit_of(figure: str) -> str:
    if figure == "minutes_5m":
        return "min for dataset planning (planning and manifest) of 5.2 million clips (bar 60)"
    if figure == "peak_gb_5m":
        return "GB resident, the peak of dataset planning over 5.2 million clips (bar 8)"
    if figure == "growth_exponent":
        return "of all parts, the highest (bar 1.1)"
    if figure.startswith("growth_exponent"):
        return "slope of CPU seconds over clips, both as logarithms"
    if figure.startswith("cpu_seconds"):
        return "s of CPU"
    return "s" if figure.startswith("seconds") else "GB resident, the peak of the process"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--only", choices=list(PARTS), nargs="+", default=list(PARTS))
    parser.add_argument("--folder", type=Path, help="where the tables are written, and stay")
    parser.add_argument("--run", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write_library(arguments.folder, arguments.clips[0])
        return
    if arguments.run:
        run_part(arguments.run, arguments.folder, arguments.clips[0])
        return
    with tempfile.TemporaryDirectory(prefix="mimix-scale-") as name:
        measure_all(arguments.only, arguments.clips, arguments.folder or Path(name))


def record_figures(new: dict[str, float]) -> None:
    """Record new figures beside the older ones, each with its date and commit."""
    stored = RESULTS / "scale_tables.json"
    old = json.loads(stored.read_text()) if stored.exists() else {"figures": {}, "measured": {}}
    today = f"{datetime.datetime.now(datetime.UTC).date().isoformat()}, {commit()}"
    figures = summarize({**old["figures"], **new})
    figures = {name: figures[name] for name in sorted(figures)}
    changed = {name for name in figures if name in new or figures[name] != old["figures"].get(name)}
    record(
        "scale_tables",
        figures,
        {name: unit_of(name) for name in figures},
        "Synthetic tables, two cores shared with other work; each part is a process of its own.",
        measured={name: today if name in changed else old["measured"][name] for name in figures},
    )


if __name__ == "__main__":
    main()
