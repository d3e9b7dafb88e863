"""Write the trained weights as a model folder in diffusers' layout, which MiMix's settings name.

    python -m miniature.unpack_weights FOLDER

The folder is what ``backbone.path`` is set to, beside ``backbone.name: miniature.miniature_wan``.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from pathlib import Path

import torch

from miniature import backbone
from miniature.base_training import load_base
from miniature.sizes import FLOW_SHIFT, Sizes
from miniature.training_run import Run
from miniature.vae_training import load_vae

WEIGHTS = Path(__file__).parent / "weights"


def unpack(weights: Path, folder: Path, sizes: Sizes | None = None) -> None:
    """Write transformer, VAE, text encoder, tokenizer and scheduler, in fp32; all or nothing.

    ``folder`` must not exist. Raises DamagedCheckpoint unless every byte of the weights is as it
    was written.
    """
    from diffusers import UniPCMultistepScheduler, WanPipeline

    run = Run(torch.device("cpu"), weights, folder, sizes or Sizes())
    base, vae = load_base(run), load_vae(run)
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        num_train_timesteps=1000,
        flow_shift=FLOW_SHIFT,
    )
    pipeline = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        transformer=base.transformer,
        vae=vae,
        scheduler=scheduler,
    )
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    # Not `save_pretrained`, which warns of the two components that are not diffusers'.
    pipeline.save_config(unfinished)
    vae.save_pretrained(unfinished / "vae")
    scheduler.save_pretrained(unfinished / "scheduler")
    backbone.save_base(base, unfinished)
    unfinished.rename(folder)


def published_model(parent: Path) -> Path:
    """Return the model folder of the published weights below ``parent``; write it if missing.

    Its name has a digest of the weights, so that another version of them is another folder.
    """
    folder = parent / f"model-{digest_weights('base', 'vae')}"
    if not folder.exists():
        unpack(WEIGHTS, folder)
    return folder


def digest_weights(*names: str) -> str:
    """Return 12 hex digits that identify published weights, such as ``base``."""
    records = "".join((WEIGHTS / f"{name}.json").read_text() for name in names)
    return hashlib.sha256(records.encode()).hexdigest()[:12]


def main() -> None:
    """Write the published weights to the folder that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    if options.folder.exists():
        parser.error(f"{options.folder} exists already")
    unpack(options.weights, options.folder)


if __name__ == "__main__":
    main()
