"""What 81 hours take, and a hundred times that: the table of docs/scale.md.

``python perf/scale.py`` measures nothing: it multiplies what the other scripts measured
(``perf/results/*.json``), the sizes of the demo's clips (``make demo`` first) and the price list of
``mimix_core/vlm/prices.yaml``. Each line of the table names what it comes from.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.store import Store
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import CaptionSettings, ClipSettings, LoraSettings, load_config
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.stages.captions.cost_estimate import estimate_show_cost
from mimix_core.stages.captions.prompt_template import DEFAULT_PROMPT_PATH, load_prompt_template
from perf.record import RESULTS, ROOT
from tasks.captions import build_show_profile

HOURS, EPISODES, CLIPS, EPOCHS, TIMES = 81, 240, 52_000, 5, 100
PAGE = ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- scale -->", "<!-- /scale -->"
LATENT_BYTES = 4 * 16 * 21 * (480 // 8) * (832 // 8)
"""fp32, channels x frames x height x width of Wan's VAE for 81 frames of 832x480."""

REQUESTS_A_MINUTE = 600
LORA = LoraSettings(epochs=EPOCHS)
assert LORA.validation_share is not None
VALIDATION_SHARE = LORA.validation_share
MODEL = "gpt-4o"


@dataclass(frozen=True)
class Line:
    """One figure at 81 hours; it grows with the library."""

    name: str
    value: float
    unit: str
    source: str

    def row(self) -> str:
        now, then = (f"{_short(n * self.value)} {self.unit}".strip() for n in (1, TIMES))
        return f"| {self.name} | {now} | {then} | {self.source} |"


def _short(value: float) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def figures(name: str) -> dict[str, float]:
    found: dict[str, float] = json.loads((RESULTS / f"{name}.json").read_text())["figures"]
    return found


def clip_bytes(store: Path) -> float:
    """Bytes of a clip and its sound, mean of the demo's."""
    sizes = [
        sum(one.size for one in record.files if one.path != Store.TABLE) / record.counts.ok
        for record in Store(store).records()
        if record.stage == "clips" and record.counts.ok
    ]
    if not sizes:
        raise SystemExit("no clips of the demo: run `make demo` first")
    return sum(sizes) / len(sizes)


def caption_dollars(mode: str) -> float:
    """US dollars for a caption: the demo's first show, ten pictures of a clip, low detail."""
    workspace = open_workspace(load_config(ROOT / "demo" / "mimix.yaml"))
    vlm = VlmSettings.model_validate({"model": MODEL, "image_detail": "low", "mode": mode})
    settings = CaptionSettings(backend="vlm", vlm=vlm)
    show = build_show_profile(workspace.store, workspace.library.shows[0])
    template = load_prompt_template(file_ref(DEFAULT_PROMPT_PATH).path)
    cost = estimate_show_cost(
        show,
        1000,
        exact_clip_count=True,
        template=template,
        settings=settings,
        clip_settings=ClipSettings(),
    )
    assert cost.estimate.cost_usd is not None
    return float(cost.estimate.cost_usd) / 1000


def lines() -> list[Line]:
    curate, captions, prefect = figures("curate"), figures("captions"), figures("orchestration")
    train = figures("train")
    a_clip = clip_bytes(ROOT / "demo" / "workspace" / "store")
    asked = REQUESTS_A_MINUTE * captions["share_of_rate_limit"] * 60
    ours, results = "perf/results/orchestration.json", "perf/results"
    paper = "the paper"
    return [
        Line("episodes", EPISODES, "", f"{paper}: {HOURS} h, of 20 minutes each"),
        Line("clips", CLIPS, "", paper),
        Line("task runs", prefect["units"], "", ours),
        Line("rows of the server's database", prefect["database_rows"], "", ours),
        Line("the server's database", prefect["database_mb"], "MB", ours),
        Line("clips and their sound", CLIPS * a_clip / 1e9, "GB", "the demo's clips, 832x480"),
        Line("latents", CLIPS * LATENT_BYTES / 1e9, "GB", "their shape, fp32"),
        Line(
            "scenes and clips",
            curate["hours_for_81_hours_on_this_machine"],
            "h of 2 cores",
            f"{results}/curate.json",
        ),
        Line(
            f"captions, at {REQUESTS_A_MINUTE} requests a minute",
            CLIPS / asked,
            "h",
            f"{results}/captions.json",
        ),
        Line(
            "Prefect, with its progress",
            (prefect["ms_per_unit"] * prefect["units"] / 1000 + prefect["progress_seconds"]) / 3600,
            "h of a core",
            ours,
        ),
        Line(
            "latents, fp32",
            CLIPS * train["vae_seconds_per_clip"] / 3600,
            "h of an H200",
            f"{results}/train.json",
        ),
        Line(
            f"training, {EPOCHS} epochs of the 14B",
            CLIPS * EPOCHS * train["seconds_per_step"] * train["engine_overhead"] / 3600,
            "h of an H200",
            f"{results}/train.json",
        ),
        Line(
            f"its validations, {VALIDATION_SHARE:.0%} of it at most",
            CLIPS * EPOCHS * train["seconds_per_step"] / 3600 * VALIDATION_SHARE,
            "h of an H200",
            f"{results}/train.json",
        ),
        Line(
            f"captions by {MODEL}",
            CLIPS * caption_dollars("live"),
            "US$",
            "mimix_core/vlm/prices.yaml",
        ),
        Line(
            "the same by its Batch API",
            CLIPS * caption_dollars("batch"),
            "US$",
            "mimix_core/vlm/prices.yaml",
        ),
    ]


def main() -> None:
    head = f"| what | {HOURS} h | {HOURS * TIMES:,} h | from |\n| --- | ---: | ---: | --- |"
    table = "\n".join([head, *(line.row() for line in lines())])
    page = PAGE.read_text()
    before, rest = page.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")
    print(table)


if __name__ == "__main__":
    main()
