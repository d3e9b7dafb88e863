"""``samples.adapters``: in the key by content and weight, and a weighted sum in the video."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mimix_core.engine.artifacts import digest_file, file_ref
from mimix_core.engine.cache_key import canonical_json
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.media.decode import read_rgb
from mimix_core.settings import AdapterSettings, SampleSettings
from mimix_core.tables import Row
from mimix_core.wan import lora, lora_formats, safetensors_io, videos_stage
from mimix_core.wan.generation import provenance
from mimix_core.wan.lora_formats import Adapter
from tests.wan.test_videos_stage import rows
from tests.wan.video_inputs import PROMPTS, SETTINGS, adapter, inputs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights(pipeline_folder: Path) -> Adapter:
    return adapter(pipeline_folder)


def peer_adapter(path: Path, seed: int = 5) -> Path:
    """Write a LoRA as musubi-tuner does."""
    numbers = torch.Generator().manual_seed(seed)
    layer = "lora_unet_blocks_0_self_attn_v"
    tensors = {
        f"{layer}.lora_down.weight": torch.randn(2, 96, generator=numbers),
        f"{layer}.lora_up.weight": torch.randn(96, 2, generator=numbers),
        f"{layer}.alpha": torch.tensor(1.0),
    }
    safetensors_io.write_tensors(path, tensors)
    return path


def with_adapters(*chosen: tuple[Path, float], **more: float) -> SampleSettings:
    adapters = tuple(AdapterSettings(path=path, weight=weight) for path, weight in chosen)
    return SETTINGS.model_copy(update={"adapters": adapters, **more})


def test_adapters_count_in_the_key_by_content_and_weight_and_only_if_there_are_any(
    tmp_path: Path, pipeline_folder: Path, weights: Adapter
) -> None:
    plain = inputs(pipeline_folder, tmp_path, weights)
    assert "adapter" not in str(canonical_json(plain)) + str(canonical_json(SETTINGS)).replace(
        "adapter_mode", ""
    )
    one, same, other = (tmp_path / f"{name}.safetensors" for name in ("one", "same", "other"))
    for path, seed in ((one, 5), (same, 5), (other, 6)):
        peer_adapter(path, seed)

    def key(path: Path, weight: float, **more: float) -> str:
        given_ = plain.model_copy(update={"adapters": (file_ref(path),)})
        return videos_stage.STAGE.key(given_, with_adapters((path, weight), **more))

    keys = [key(one, 0.5), key(one, 0.6), key(other, 0.5), key(one, 0.5, adapter_weight=0.5)]
    assert len({*keys, videos_stage.STAGE.key(plain, SETTINGS)}) == 5
    assert key(same, 0.5) == keys[0]


def test_videos_are_generated_with_the_weighted_sum_of_adapters(
    tmp_path: Path, pipeline_folder: Path, weights: Adapter
) -> None:
    peer = peer_adapter(tmp_path / "peer.safetensors")

    def generate(name: str, trained: Adapter, chosen: SampleSettings) -> tuple[Row, Path]:
        given_ = inputs(
            pipeline_folder,
            tmp_path / name,
            trained,
            prompts=PROMPTS[:1],
            adapters=tuple(file_ref(one.path) for one in chosen.adapters),
        )
        ref = run_stage(Store(tmp_path / name / "s"), videos_stage.STAGE, given_, chosen).ref
        return rows(ref)["one"], ref.folder / rows(ref)["one"]["file"]

    _, plain = generate("plain", weights, SETTINGS)
    _, both = generate("both", weights, with_adapters((peer, 0.5), adapter_weight=0.8))
    said = provenance.read_provenance(both)
    assert (said.lora_weight, said.adapters) == (0.8, ((digest_file(peer), 0.5),))
    assert provenance.read_provenance(plain).adapters == ()
    assert "adapters" not in provenance.read_provenance(plain).to_json()
    halves = safetensors_io.read_tensors(peer)
    down, up = (halves[f"lora_unet_blocks_0_self_attn_v.lora_{x}.weight"] for x in ("down", "up"))
    summed = lora_formats.sum_adapters(
        [(weights, 0.8), (Adapter({"blocks.0.attn1.to_v": (down, up)}, 1.0), 0.5)]
    )
    _, at_once = generate("at-once", summed, SETTINGS)
    assert (read_rgb(both) == read_rgb(at_once)).all()
    assert (read_rgb(both) != read_rgb(plain)).any()
    _, without = generate("without", weights, with_adapters((peer, 0.0)))
    assert (read_rgb(without) == read_rgb(plain)).all()


def test_an_adapter_of_another_size_is_refused_before_any_model_is_loaded(
    tmp_path: Path, pipeline_folder: Path, weights: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.safetensors"
    name = "diffusion_model.blocks.0.self_attn.q"
    halves = {
        f"{name}.lora_A.weight": torch.ones(2, 64),
        f"{name}.lora_B.weight": torch.ones(64, 2),
    }
    safetensors_io.write_tensors(path, halves)
    given_ = inputs(pipeline_folder, tmp_path, weights, adapters=(file_ref(path),))
    monkeypatch.setattr(lora, "load_transformer", lambda *_: pytest.fail("loaded a model"))
    with pytest.raises(BadInput, match="to_q is 64 x 64 in the file, and 96 x 96"):
        run_stage(Store(tmp_path / "s"), videos_stage.STAGE, given_, with_adapters((path, 1.0)))
