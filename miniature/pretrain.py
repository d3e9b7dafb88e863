"""Train the judge, the VAE and the base of ``miniature-wan`` from nothing.

    python -m miniature.pretrain --judge 120 --vae 200 --base 200 --base-planned 900 \
        --state weights --out weights

Every number is seconds of training in this call, so that a call fits any limit. Finished parts are
read from ``--state``; a base goes on where it was, from full precision if its state lies there,
else from its bf16 checkpoint. Measurements are printed as lines of JSON and written to ``--out``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from miniature import (
    base_training,
    decoder_training,
    judge_training,
    vae_training,
)
from miniature.probe import probe
from miniature.sizes import TINY, Sizes
from miniature.training_run import Run, report

Tensor = torch.Tensor


def main() -> None:
    """Run the steps that are asked for, in order."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("judge", "vae", "decoder", "base"):
        parser.add_argument(f"--{name}", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--base-planned", type=float, default=1200.0, metavar="SECONDS")
    parser.add_argument(
        "--prompts", type=int, default=0, help="sample that many prompts at the end"
    )
    parser.add_argument("--vae-rate", type=float, default=1e-3)
    parser.add_argument("--compile-vae", action="store_true", help="worth it from 2 minutes on")
    parser.add_argument("--probe", action="store_true")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true", help="tiny networks and batches, for a CPU")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = Run(device, options.state, options.out, Sizes())
    if options.tiny:
        run = Run(device, options.state, options.out, TINY, workers=0, scale=1 / 64)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.manual_seed(0)
    card = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    report(run, "start", card=card, torch=torch.__version__)
    if options.probe:
        probe(run)
    if options.judge:
        judge_training.train_judge(run, options.judge)
    if options.vae:
        vae_training.train_vae(
            run, options.vae, compiled=options.compile_vae, rate=options.vae_rate
        )
    if options.decoder:
        decoder_training.train_decoder(
            run, options.decoder, compiled=options.compile_vae, rate=options.vae_rate
        )
    if options.base:
        base_training.train_base(
            run, options.base, options.base_planned, compile_blocks=device.type == "cuda"
        )
    if options.prompts:
        base = base_training.load_base(run)
        for guidance in (2.0, 4.0, 6.0):
            base_training.evaluate_base(
                run, base, options.prompts, guidance=guidance, sheet=guidance == 4.0
            )


if __name__ == "__main__":
    main()
