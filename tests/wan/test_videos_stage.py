"""Stages ``videos`` and ``samples``: one video per prompt, isolated failures, resumable units."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimix_core import tables
from mimix_core.domain.caption_grammar import CaptionVariant
from mimix_core.domain.prompts import VideoPrompt
from mimix_core.engine.artifacts import TableRef, digest_file
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.engine.torch_runtime import derive_seed
from mimix_core.errors import BadInput, StageFailed
from mimix_core.media.decode import read_rgb
from mimix_core.media.encode import verify_clip
from mimix_core.settings import SampleSettings
from mimix_core.tables import SAMPLES, Row
from mimix_core.wan import lora_export, safetensors_io, samples_stage, videos_stage
from mimix_core.wan.generation import provenance
from mimix_core.wan.generation.partial_videos import PartialVideos
from mimix_core.wan.lora_formats import Adapter
from tasks.evaluation import MAX_VIDEOS_PER_UNIT, split_prompt_units
from tests.wan.video_inputs import PROMPTS, SETTINGS, adapter, inputs, prompt

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights(pipeline_folder: Path) -> Adapter:
    return adapter(pipeline_folder)


def rows(ref: TableRef) -> dict[str, Row]:
    return {row["prompt_id"]: row for row in tables.read(ref.path, SAMPLES)}


def digests(ref: TableRef) -> dict[str, str]:
    paths = (path for path in ref.folder.rglob("*") if path.is_file())
    return {path.name: digest_file(path) for path in paths if path.name != Store.RECORD}


def test_videos_are_reproducible_depend_on_prompt_and_adapter_and_have_provenance(
    tmp_path: Path, pipeline_folder: Path, weights: Adapter
) -> None:
    given_ = inputs(pipeline_folder, tmp_path / "1", weights)
    first = run_stage(Store(tmp_path / "a"), videos_stage.STAGE, given_, SETTINGS).ref
    made = rows(first)
    assert {(row["status"], row["frames"]) for row in made.values()} == {("ok", 5)}
    video = first.folder / made["one"]["file"]
    assert read_rgb(video).shape == (5, 32, 32, 3)
    verify_clip(video, 32, 32, frames=5)
    said = provenance.read_provenance(video)
    assert said == provenance.VideoProvenance(
        prompt=PROMPTS[0].render(),
        negative_prompt=SETTINGS.negative_prompt,
        seed=derive_seed(0, "one"),
        width=32,
        height=32,
        frames=5,
        steps=2,
        guidance=5.0,
        shift=5.0,
        precision="fp32",
        vae_precision="fp32",
        backbone="tiny-random-wan",
        base_sha256=given_.transformer.sha256,
        lora_sha256=digest_file(given_.lora.folder / lora_export.ADAPTER_FILE),
    )
    assert made["one"]["seed"] == said.seed != made["two"]["seed"]

    alone = inputs(pipeline_folder, tmp_path / "2", weights, prompts=PROMPTS[1:])
    again = run_stage(Store(tmp_path / "b"), videos_stage.STAGE, alone, SETTINGS).ref
    assert rows(again)["two"] == made["two"]
    bare = inputs(
        pipeline_folder,
        tmp_path / "3",
        adapter(pipeline_folder, train=False),
        prompts=PROMPTS[1:],
    )
    without = run_stage(Store(tmp_path / "c"), videos_stage.STAGE, bare, SETTINGS).ref
    assert (read_rgb(without.folder / made["two"]["file"]) != read_rgb(video)).any()
    assert rows(without)["two"]["sha256"] != made["two"]["sha256"]


def test_a_unit_resumes_with_the_complete_videos(
    tmp_path: Path, pipeline_folder: Path, weights: Adapter
) -> None:
    given_ = inputs(pipeline_folder, tmp_path, weights)
    store = Store(tmp_path / "first")
    first = run_stage(store, videos_stage.STAGE, given_, SETTINGS).ref
    assert store.record(first).runtime_stats["found"] == 0
    kept = {
        provenance.read_provenance(path).seed: path for path in (tmp_path / "parts").rglob("*.mp4")
    }
    one, two = (kept[derive_seed(0, name)] for name in ("one", "two"))
    two.write_bytes(two.read_bytes()[:-100])
    (one.parent / f"{one.name[:32]}.unfinished").write_bytes(b"a video that was being written")
    again = Store(tmp_path / "second")
    second = run_stage(again, videos_stage.STAGE, given_, SETTINGS).ref
    effort = again.record(second).runtime_stats
    assert (effort["found"], effort["generated"]) == (1, 1)
    assert digests(second) == digests(first)


def test_prompts_that_are_too_long_are_named_with_their_length(
    tmp_path: Path, pipeline_folder: Path, weights: Adapter
) -> None:
    prompts = (prompt("one"), prompt("long", "walks, " * 300 + "and rests"))
    store = Store(tmp_path / "store")
    given_ = inputs(pipeline_folder, tmp_path, weights, prompts=prompts)
    ref = run_stage(store, videos_stage.STAGE, given_, SETTINGS).ref
    told = str(store.record(ref).notes["prompts_cut"])
    assert re.fullmatch(r"long \(\d+ tokens\)", told)
    assert int(re.findall(r"\d+", told)[0]) > 600


RUN = """
import sys
from pathlib import Path
from mimix_core.settings import SampleSettings
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.wan import videos_stage
inputs = videos_stage.VideoInputs.model_validate_json(Path(sys.argv[1]).read_bytes())
settings = SampleSettings.model_validate_json(Path(sys.argv[2]).read_bytes())
run_stage(Store(Path(sys.argv[3])), videos_stage.STAGE, inputs, settings)
"""


@pytest.mark.e2e
def test_a_killed_unit_resumes_and_gives_the_same_bytes(
    tmp_path: Path, pipeline_folder: Path, weights: Adapter
) -> None:
    many = tuple(prompt(f"p{number}") for number in range(8))
    given_ = inputs(pipeline_folder, tmp_path, weights, prompts=many)
    (tmp_path / "inputs.json").write_text(given_.model_dump_json())
    (tmp_path / "settings.json").write_text(SETTINGS.model_dump_json())
    store = Store(tmp_path / "store")
    words = ["inputs.json", "settings.json", "store"]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *(str(tmp_path / word) for word in words)]
    )
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "parts").rglob("*.mp4"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(list((tmp_path / "parts").rglob("*.mp4")))
    assert finished < len(many)

    ref = run_stage(store, videos_stage.STAGE, given_, SETTINGS).ref
    effort = store.record(ref).runtime_stats
    assert (effort["found"], effort["generated"]) == (finished, len(many) - finished)
    elsewhere = given_.model_copy(update={"partial_results": tmp_path / "no-parts"})
    undisturbed = run_stage(Store(tmp_path / "other"), videos_stage.STAGE, elsewhere, SETTINGS).ref
    assert digests(ref) == digests(undisturbed)
    assert {row["status"] for row in rows(ref).values()} == {"ok"}


def test_a_failing_prompt_does_not_affect_others(
    store: Store, tmp_path: Path, pipeline_folder: Path, weights: Adapter
) -> None:
    """A word whose embedding holds no numbers makes no picture, and no other prompt has it."""
    broken = tmp_path / "broken"
    shutil.copytree(pipeline_folder, broken)
    from mimix_core.wan.text_embeddings import load_tokenizer, tokenize_captions

    bad = (PROMPTS[0], prompt("two", "smiles at a butterfly"))
    good_ids, bad_ids, negative_ids = tokenize_captions(
        load_tokenizer(broken / "tokenizer"),
        [*(one.render() for one in bad), SETTINGS.negative_prompt],
    )
    [word, *_] = sorted(set(bad_ids) - set(good_ids) - set(negative_ids))
    path = broken / "text_encoder" / "model.safetensors"
    found = safetensors_io.read_tensors(path)
    [name] = [name for name, tensor in found.items() if tensor.shape[0] == 512]
    found[name][word] = torch.nan
    safetensors_io.write_tensors(path, found, {"format": "pt"})
    given_ = inputs(broken, tmp_path, weights, prompts=bad)
    one, two = rows(run_stage(store, videos_stage.STAGE, given_, SETTINGS).ref).values()
    assert one["status"] == "ok"
    assert (two["status"], two["reason"], two["file"]) == ("failed", "generation_failed", "")
    assert "contains non-finite values" in two["detail"]


def test_invalid_inputs_are_rejected_before_a_model_is_loaded(
    tmp_path: Path, pipeline_folder: Path, weights: Adapter
) -> None:
    given_ = inputs(pipeline_folder, tmp_path, weights)
    # No weights lie there: whoever loads them fails otherwise.
    nowhere = {"path": tmp_path / "nowhere"}
    empty = given_.model_copy(
        update={
            name: getattr(given_, name).model_copy(update=nowhere)
            for name in ("transformer", "vae", "text_encoder", "tokenizer")
        }
    )
    others = empty.model_copy(update={"backbone_name": "wan2.1-t2v-1.3b"})
    with pytest.raises(BadInput, match=r"trained on tiny-random-wan .* not on wan2.1-t2v-1.3b"):
        videos_stage.run(others, SETTINGS, tmp_path)
    others = empty.model_copy(update={"backbone_name": "wan2.2-ti2v-5b"})
    with pytest.raises(BadInput, match=r"64x48: wan2\.2-ti2v-5b takes multiples of 32"):
        videos_stage.run(others, SampleSettings(width=64, height=48), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "other layers",
            r"does not fit this transformer, which has no layer blocks\.7\.attn1\.to_q",
        ),
        ("other size", r"does not fit this transformer: blocks\.0\.attn1\.to_q is \(96, 96\)"),
        ("no numbers", r"contains non-finite values \(NaN or Inf\) in blocks\.0\.attn1\.to_q"),
    ],
)
def test_an_adapter_that_does_not_fit_is_rejected(
    tmp_path: Path, pipeline_folder: Path, weights: Adapter, change: str, message: str
) -> None:
    pairs = dict(weights.pairs)
    down, up = pairs["blocks.0.attn1.to_q"]
    if change == "other layers":
        pairs["blocks.7.attn1.to_q"] = (down.clone(), up.clone())
    elif change == "other size":
        pairs["blocks.0.attn1.to_q"] = (down, up[:-1])
    else:
        pairs["blocks.0.attn1.to_q"] = (down * torch.inf, up)
    given_ = inputs(pipeline_folder, tmp_path, Adapter(pairs, weights.alpha))
    with pytest.raises(BadInput, match=message):
        videos_stage.run(given_, SETTINGS, tmp_path)


def test_the_error_for_an_unsupported_kernel_names_the_samples_setting(
    tmp_path: Path, pipeline_folder: Path, weights: Adapter
) -> None:
    given_ = inputs(pipeline_folder, tmp_path, weights)
    settings = SETTINGS.model_copy(update={"attention": "cudnn", "device": "cpu"})
    with pytest.raises(BadInput, match=r"key samples\.attention: .*needs a CUDA GPU"):
        videos_stage.run(given_, settings, tmp_path)


def test_each_variant_of_a_prompt_has_the_same_noise_and_another_text(
    tmp_path: Path, pipeline_folder: Path, weights: Adapter
) -> None:
    given_ = inputs(pipeline_folder, tmp_path, weights)
    made = [
        videos_stage.video_provenance(
            PROMPTS[0], given_, SETTINGS.model_copy(update={"variant": str(variant)}), ["ab"]
        )
        for variant in CaptionVariant
    ]
    assert len({one.prompt for one in made}) == len(CaptionVariant)
    assert len({one.seed for one in made}) == 1
    assert len({one.digest() for one in made}) == len(CaptionVariant)


def test_samples_are_the_videos_of_all_units_in_one_table(
    store: Store, tmp_path: Path, pipeline_folder: Path, weights: Adapter
) -> None:
    given_ = [
        inputs(pipeline_folder, tmp_path / one.id, weights, unit=one.id, prompts=(one,))
        for one in PROMPTS
    ]
    made = [run_stage(store, videos_stage.STAGE, one, SETTINGS).ref for one in given_]
    joined = samples_stage.SampleInputs(unit="all", videos=tuple(made))
    ref = run_stage(store, samples_stage.STAGE, joined, SETTINGS).ref
    assert ref.counts.rows_in == ref.counts.ok == 2
    assert rows(ref) == rows(made[0]) | rows(made[1])
    for row in rows(ref).values():
        assert digest_file(ref.folder / row["file"]) == row["sha256"]
        assert row["file"] == f"samples/{row['prompt_id']}.mp4"
    (made[1].folder / "samples" / "two.mp4").write_bytes(b"another video")
    (tmp_path / "out").mkdir()
    with pytest.raises(StageFailed, match="the digest differs from its table's"):
        samples_stage.run(joined, SETTINGS, tmp_path / "out")


def test_a_failed_row_stays_in_the_one_table(
    store: Store, tmp_path: Path, pipeline_folder: Path, weights: Adapter
) -> None:
    from tests.factories import table_ref

    failed = tables.failed(
        tables.Reason.GENERATION_FAILED,
        "RuntimeError: no",
        prompt_id="three",
        category="single",
        prompt="x",
        characters=["Bunny"],
        backbone="tiny-random-wan",
        seed=1,
        file="",
        sha256="",
        frames=0,
        width=0,
        height=0,
    )
    broken = table_ref(tmp_path / "videos", SAMPLES, [failed])
    joined = samples_stage.SampleInputs(unit="all", videos=(broken,))
    ref = run_stage(store, samples_stage.STAGE, joined, SETTINGS).ref
    assert (ref.counts.rows_in, ref.counts.failed) == (1, 1)


@given(st.integers(1, 40))
def test_the_units_of_prompts_cover_all_of_them_in_order(count: int) -> None:
    names = [VideoPrompt.model_construct(id=f"p{number}") for number in range(count)]
    found = split_prompt_units(names)
    assert [one for _, share in found for one in share] == names
    assert all(0 < len(share) <= MAX_VIDEOS_PER_UNIT for _, share in found)
    assert len({unit for unit, _ in found}) == len(found)
    # A prompt that is added at the end leaves all full units as they are.
    more = split_prompt_units([*names, VideoPrompt.model_construct(id="new")])
    assert [share for _, share in more][: count // MAX_VIDEOS_PER_UNIT] == [
        share for _, share in found if len(share) == MAX_VIDEOS_PER_UNIT
    ]


RECIPE = provenance.VideoProvenance(
    prompt="p",
    negative_prompt="",
    seed=1,
    width=16,
    height=16,
    frames=1,
    steps=1,
    guidance=1.0,
    shift=5.0,
    precision="bf16",
    vae_precision="fp32",
    backbone="b",
    base_sha256="c",
    lora_sha256="d",
)


@given(whole=st.binary(min_size=1, max_size=64), left=st.integers(0, 63), seed=st.integers(0, 9))
def test_only_a_complete_video_of_that_provenance_is_found(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, left: int, seed: int
) -> None:
    kept = PartialVideos(tmp_path_factory.mktemp("kept"))
    assert kept.get(RECIPE) is None
    path = kept.put(RECIPE, lambda to: to.write_bytes(whole) and None)
    assert kept.get(RECIPE) == path
    assert path.read_bytes() == whole
    assert (kept.get(RECIPE.model_copy(update={"seed": seed})) is None) == (seed != RECIPE.seed)
    path.write_bytes(whole[: left % len(whole)])
    assert kept.get(RECIPE) is None


def test_other_videos_have_no_provenance(tmp_path: Path) -> None:
    import numpy as np

    provenance.write_video(tmp_path / "plain.mp4", np.zeros((2, 16, 16, 3), np.uint8))
    with pytest.raises(BadInput, match="has no provenance"):
        provenance.read_provenance(tmp_path / "plain.mp4")
    (tmp_path / "text.mp4").write_bytes(b"no video")
    with pytest.raises(BadInput, match="cannot be opened"):
        provenance.read_provenance(tmp_path / "text.mp4")


@given(words=st.text(max_size=200))
def test_any_prompt_is_preserved_in_the_provenance(
    tmp_path_factory: pytest.TempPathFactory, words: str
) -> None:
    import numpy as np

    path = tmp_path_factory.mktemp("video") / "v.mp4"
    made = RECIPE.model_copy(update={"prompt": words})
    provenance.write_video(path, np.zeros((1, 16, 16, 3), np.uint8), comment=made.model_dump_json())
    assert provenance.read_provenance(path) == made
