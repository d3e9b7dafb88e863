"""A project of two episodes of the demo: every stage, one step of everything."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.e2e.demo import ROOT

EPISODES = {"bbb-meadow", "portrait-smile"}
PROMPTS = {"single-bunny-butterfly", "single-clara-laughs"}


def write_short_demo(folder: Path) -> Path:
    """Write the demo's settings with fewer episodes, prompts and steps; return their file."""
    for name in ("scripts", "references", "models", "footage"):
        (folder / name).symlink_to(ROOT / "demo" / name)
    library = yaml.safe_load((ROOT / "demo" / "library.yaml").read_text())
    for show in library["shows"]:
        show["episodes"] = [one for one in show["episodes"] if Path(one["path"]).stem in EPISODES]
    (folder / "library.yaml").write_text(yaml.safe_dump(library, sort_keys=False))
    prompts = yaml.safe_load((ROOT / "demo" / "prompts.yaml").read_text())
    prompts["prompts"] = [one for one in prompts["prompts"] if one["id"] in PROMPTS]
    (folder / "prompts.yaml").write_text(yaml.safe_dump(prompts, sort_keys=False))
    settings = yaml.safe_load((ROOT / "demo" / "mimix.yaml").read_text())
    settings["overlays"] = {"sampled_frames": 4}
    settings["clips"] = {"width": 320, "height": 192}
    settings["composites"] = {"ratio": "0.30"}
    settings["latents"] = {"width": 64, "height": 32}
    settings["lora"] |= {"epochs": 1, "validation_interval": 2, "validation_quantiles": 2}
    settings["samples"] |= {"num_frames": 5, "num_inference_steps": 2}
    (folder / "mimix.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return folder / "mimix.yaml"
