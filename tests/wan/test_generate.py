"""Stage ``samples``: a video a prompt, each failing alone, the adapter at work."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mimix_core import tables
from mimix_core.errors import BadInput
from mimix_core.media.decode import read_rgb
from mimix_core.refs import file_ref
from mimix_core.settings import SampleSettings
from mimix_core.stage import run_stage
from mimix_core.store import Store
from mimix_core.tables import LORA, SAMPLES
from mimix_core.wan import export, generate, lora
from tests.made import table_ref
from tests.wan.test_export import card
from tests.wan.test_lora import adapted, trained

pytestmark = pytest.mark.slow

SETTINGS = SampleSettings(width=32, height=32, frames=5, steps=2, precision="fp32")
PROMPTS = [
    {
        "id": name,
        "category": "single",
        "characters": ["Bunny"],
        "actions": [{"name": "Bunny", "action": "smiles"}],
        "style": "cartoon",
    }
    for name in ("one", "two")
]


def inputs(pipeline_folder: Path, folder: Path, *, train: bool = True, prompts=PROMPTS):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompts.yaml").write_text(yaml.safe_dump({"prompts": prompts}))
    transformer = adapted(pipeline_folder)
    if train:
        trained(transformer)
    adapter = table_ref(folder / "lora", LORA, [])
    base = file_ref(pipeline_folder / "transformer").sha256
    weights = export.adapter(dict(lora.trainable(transformer)), 4.0)
    export.write(folder / "lora" / export.FILE, weights, card(base_sha256=base))
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    return generate.SampleInputs(
        unit="all",
        prompts=file_ref(folder / "prompts.yaml"),
        roster=("Bunny", "Clara"),
        backbone_name="tiny-random-wan",
        lora=adapter,
        **{part: file_ref(pipeline_folder / part) for part in parts},
    )


def videos(ref) -> dict[str, str]:
    return {row["prompt_id"]: row["sha256"] for row in tables.read(ref.path, SAMPLES)}


def test_videos_repeat_and_depend_on_prompt_and_adapter(
    tmp_path: Path, pipeline_folder: Path
) -> None:
    first = run_stage(
        Store(tmp_path / "a"), generate.STAGE, inputs(pipeline_folder, tmp_path / "1"), SETTINGS
    ).ref
    rows = tables.read(first.path, SAMPLES)
    assert [(row["status"], row["frames"]) for row in rows] == [("ok", 5)] * 2
    frames = read_rgb(first.folder / rows[0]["file"])
    assert frames.shape == (5, 32, 32, 3)
    assert rows[0]["seed"] != rows[1]["seed"]

    fewer = inputs(pipeline_folder, tmp_path / "2", prompts=PROMPTS[1:])
    alone = run_stage(Store(tmp_path / "b"), generate.STAGE, fewer, SETTINGS).ref
    assert videos(alone)["two"] == videos(first)["two"]
    bare = inputs(pipeline_folder, tmp_path / "3", train=False)
    without = run_stage(Store(tmp_path / "c"), generate.STAGE, bare, SETTINGS).ref
    assert videos(without)["two"] != videos(first)["two"]


def test_a_prompt_fails_alone(
    store: Store, tmp_path: Path, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_generate = generate.generate

    def breaking(pipeline, prompt, seed, settings):
        if seed == generate_seed("one"):
            raise RuntimeError("out of memory")
        return true_generate(pipeline, prompt, seed, settings)

    monkeypatch.setattr(generate, "generate", breaking)
    given = inputs(pipeline_folder, tmp_path / "1")
    ref = run_stage(store, generate.STAGE, given, SETTINGS).ref
    one, two = tables.read(ref.path, SAMPLES)
    assert (one["status"], one["reason"]) == ("failed", "generation_failed")
    assert "out of memory" in one["detail"]
    assert two["status"] == "ok"


def generate_seed(prompt_id: str) -> int:
    from mimix_core.wan.runtime import seed_of

    return seed_of(SETTINGS.seed, prompt_id)


def test_an_adapter_of_another_base_is_refused_before_a_model_is_loaded(
    tmp_path: Path, pipeline_folder: Path
) -> None:
    given = inputs(pipeline_folder, tmp_path / "1")
    others = given.model_copy(update={"backbone_name": "wan2.1-t2v-1.3b"})
    with pytest.raises(BadInput, match=r"trained on tiny-random-wan .* not on wan2.1-t2v-1.3b"):
        generate.run(others, SETTINGS, tmp_path)


def test_a_character_nobody_knows_is_refused_before_a_model_is_loaded(
    tmp_path: Path, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inputs(pipeline_folder, tmp_path / "1").model_copy(update={"roster": ("Clara",)})
    monkeypatch.setattr(generate, "load_pipeline", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(BadInput, match="no character is named 'Bunny'"):
        generate.run(given, SETTINGS, tmp_path)
