"""Show what MiMix does: four scenes of two shows, without and with composites in the training.

    python -m miniature.demo FOLDER

generates eight videos on a CPU with the published weights, lets the judge that knows say what they
show, and writes ``FOLDER/index.html``. Finished videos are kept, so a second call only writes the
page again; with other weights or settings they are generated anew.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from mimix_core.engine.torch_runtime import derive_seed
from mimix_core.settings import SampleSettings
from mimix_core.wan.generation.component_folders import ComponentFolders
from mimix_core.wan.generation.provenance import write_video
from mimix_core.wan.generation.video_generator import load_generator
from miniature import miniature_wan
from miniature.judge_training import load_judge
from miniature.pack_adapter import load_adapter
from miniature.scenes import FRAMES, HEIGHT, WIDTH
from miniature.sizes import FLOW_SHIFT, Sizes
from miniature.study.page import describe, write_page
from miniature.study.prompts import StudyPrompt, study_prompts
from miniature.study.scoring import VideoRow, score_videos
from miniature.training_run import Run
from miniature.unpack_weights import WEIGHTS, digest_weights, published_model

ARMS = {"composites-0": "adapter-0", "composites-20": "adapter-20"}
"""The arms of the study that are shown, and the names of their adapters' files."""

PROMPTS = (
    "cross-style-lum-tek-cartoon-0",
    "cross-style-pog-tam-cartoon-2",
    "cross-style-zed-tek-realistic-2",
    "cross-style-zed-gil-realistic-3",
)
"""Examples, chosen because they show the difference; docs/miniature.md has the shares of all."""

SETTINGS = SampleSettings(
    negative_prompt="",
    width=WIDTH,
    height=HEIGHT,
    num_frames=FRAMES,
    num_inference_steps=12,
    guidance_scale=4.0,
    batched_guidance=True,
    shift=FLOW_SHIFT,
    precision="fp32",
    compile="off",
    device="cpu",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Generate, judge and show the videos."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    started = time.monotonic()
    folder: Path = options.folder
    prompts = [prompt for prompt in study_prompts() if prompt.id in PROMPTS]
    rows: list[VideoRow] = []
    judge, threshold = load_judge(Run(torch.device("cpu"), WEIGHTS, WEIGHTS, Sizes()))
    for arm in ARMS:
        videos = generate(folder, arm, prompts)
        rows += score_videos(arm, 0, videos, prompts, judge, threshold)
    write_page(rows, (), folder / "index.html", "Generated on this machine by make demo.")
    for row in rows:
        verdict = describe(row) or "all kept"
        sys.stdout.write(f"  {row['arm']:<14} {' and '.join(row['characters'])}: {verdict}\n")
    sys.stdout.write(
        f"miniature: {len(rows)} videos in {time.monotonic() - started:.0f} s, "
        f"{folder / 'index.html'}\n"
    )


def generate(folder: Path, arm: str, prompts: Sequence[StudyPrompt]) -> dict[str, Path]:
    """Generate the video of each prompt that is not there yet; return the file of each."""
    made_with = digest_weights("base", "vae", ARMS[arm]) + SETTINGS.model_dump_json()
    out = folder / f"{arm}-{hashlib.sha256(made_with.encode()).hexdigest()[:12]}"
    out.mkdir(parents=True, exist_ok=True)
    videos = {prompt.id: out / f"{prompt.id}.mp4" for prompt in prompts}
    texts = {prompt.id: prompt.as_prompt().render() for prompt in prompts}
    missing = [name for name, path in videos.items() if not path.exists()]
    if not missing:
        return videos
    model = published_model(folder)
    generator = load_generator(
        ComponentFolders(
            backbone=miniature_wan.BACKBONE,
            transformer=model / "transformer",
            vae=model / "vae",
            text_encoder=model / "text_encoder",
            tokenizer=model / "tokenizer",
            scheduler=model / "scheduler",
        ),
        load_adapter(WEIGHTS, ARMS[arm]),
        str(WEIGHTS / ARMS[arm]),
        [texts[name] for name in missing],
        SETTINGS,
        torch.device("cpu"),
    )
    for name in missing:
        frames_THWC = generator.generate(texts[name], derive_seed(SETTINGS.seed, name))
        unfinished = videos[name].with_suffix(".unfinished")
        write_video(unfinished, frames_THWC, comment=texts[name])
        unfinished.replace(videos[name])
        sys.stdout.write(f"  {arm}: {texts[name]}\n")
    return videos


if __name__ == "__main__":
    main()
