"""Shards return the stored tensors one sample at a time; killed units resume."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimix_core import tables
from mimix_core.engine.artifacts import TableRef, digest_file
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.settings import LatentSettings
from mimix_core.tables import LATENTS
from mimix_core.wan import latents_stage, safetensors_io, tensor_shards
from tests.wan.test_precompute import latent_inputs, made

pytestmark = pytest.mark.slow

names = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=8)
shapes = st.lists(st.integers(0, 4), min_size=1, max_size=3)
types = st.sampled_from([torch.float32, torch.bfloat16])


def numbers(shape: list[int], dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@given(contents=st.dictionaries(names, st.tuples(shapes, types), min_size=1, max_size=5))
def test_a_merged_file_contains_each_tensor(contents, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("join")
    whole = {name: numbers(*what, seed) for seed, (name, what) in enumerate(contents.items())}
    parts = {}
    for number, (name, tensor) in enumerate(whole.items()):
        parts[name] = folder / str(number)
        # What else is in the part does not matter.
        other = {"another tensor": numbers([3]), "a third one": numbers([2])}
        safetensors_io.write_tensors(parts[name], {name: tensor, **other}, {"note": "n"})
    safetensors_io.merge_tensor_files(folder / "joined", parts)
    found = safetensors_io.read_tensors(folder / "joined")
    assert set(found) == set(whole)
    for name, tensor in whole.items():
        assert torch.equal(found[name], tensor)
        assert torch.equal(safetensors_io.read_tensor(folder / "joined", name), tensor)
        assert safetensors_io.digest_tensor(found[name]) == safetensors_io.digest_tensor(tensor)
    safetensors_io.merge_tensor_files(folder / "again", dict(reversed(parts.items())))
    assert digest_file(folder / "again") == digest_file(folder / "joined")


def test_shards_have_64_tensors_and_every_one_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    given = {f"s{n:03d}": numbers([1, 1, 1, 2], seed=n) for n in range(130)}
    with tensor_shards.open_partial_results(tmp_path, "stage", "key") as parts:
        kept = {name: parts.put(name, tensor) for name, tensor in given.items()}
        places = tensor_shards.write_shards(tmp_path / "out", "latents", kept)
    shards = sorted((tmp_path / "out" / "latents").iterdir())
    assert [len(safetensors_io.read_tensors(path)) for path in shards] == [64, 64, 2]
    for name, tensor in given.items():
        place = places[name]
        ref = tensor_shards.TensorRef(
            file=tmp_path / "out" / place.file, key=place.key, shape=place.shape
        )
        assert torch.equal(tensor_shards.read_latents(ref), tensor)
        assert place.sha256 == safetensors_io.digest_tensor(tensor)


def test_reading_one_sample_does_not_read_the_shard(tmp_path: Path) -> None:
    size = 1 << 18  # 1 MB of fp32: 256 pages of 4 kB, as its copy in memory
    safetensors_io.write_tensors(
        tmp_path / "shard", {f"s{n}": torch.full((1, 1, 1, size), n) for n in range(64)}
    )
    ref = tensor_shards.TensorRef(file=tmp_path / "shard", key="s7", shape=(1, 1, 1, size))
    before = resource.getrusage(resource.RUSAGE_SELF)
    assert tensor_shards.read_latents(ref).eq(7).all()
    after = resource.getrusage(resource.RUSAGE_SELF)
    touched = after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt
    assert touched < 64 * 256 / 8, "pages; the shard is 16384"


def test_errors_for_missing_or_damaged_tensors_have_a_fix(tmp_path: Path) -> None:
    safetensors_io.write_tensors(tmp_path / "shard", {"s": numbers([1, 2, 3, 4])})
    ref = tensor_shards.TensorRef(file=tmp_path / "shard", key="s", shape=(1, 2, 3, 4))
    for broken in ({"key": "t"}, {"file": tmp_path / "gone"}, {"shape": (2, 1, 3, 4)}):
        with pytest.raises(BadInput, match="writes it again"):
            tensor_shards.read_latents(ref.model_copy(update=broken))
    with pytest.raises(BadInput, match="writes it again"):
        tensor_shards.read_text(ref)
    os.truncate(tmp_path / "shard", 100)
    with pytest.raises(BadInput, match="writes it again"):
        tensor_shards.read_latents(ref)


@given(place=st.integers(0, 400), byte=st.integers(0, 255))
def test_a_damaged_partial_result_is_ignored(place: int, byte: int, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("parts")
    with tensor_shards.open_partial_results(folder, "stage", "key") as parts:
        kept = parts.put("s", numbers([4, 4, 2]))
        assert parts.get("s") == kept
        content = bytearray(kept.path.read_bytes())
        place %= len(content)
        content[place] = byte
        kept.path.write_bytes(content)
        found = parts.get("s")
        # A space in the header's padding may be another one; the numbers may not.
        assert found is None or safetensors_io.read_tensor(found.path, "s").equal(
            numbers([4, 4, 2])
        )
        kept.path.write_bytes(content[:place])
        assert parts.get("s") is None


def test_removing_stale_results_spares_running_units(tmp_path: Path) -> None:
    with tensor_shards.open_partial_results(tmp_path, "latents", "old") as old:
        old.put("s", numbers([1]))
    with tensor_shards.open_partial_results(tmp_path, "latents", "busy") as busy:
        busy.put("s", numbers([1]))
        tensor_shards.remove_stale_results(tmp_path, "latents")
        assert busy.get("s") is not None
        assert old.get("s") is None
    assert [path.name for path in (tmp_path / "latents").iterdir()] == ["busy"]
    tensor_shards.remove_stale_results(tmp_path, "latents")
    assert list((tmp_path / "latents").iterdir()) == []


def test_runs_that_remove_stale_results_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    for number in range(40):
        with tensor_shards.open_partial_results(tmp_path, "latents", f"{number:03}") as parts:
            for name in "abcdef":
                parts.put(name, numbers([1]))
    # As a run leaves it that was killed while it removed.
    (tmp_path / "latents" / "000").rename(tmp_path / "latents" / "000.removed")
    barrier = Barrier(6)

    def remove() -> None:
        barrier.wait()
        tensor_shards.remove_stale_results(tmp_path, "latents")

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(remove) for _ in range(6)]:
            done.result()
    assert list((tmp_path / "latents").iterdir()) == []


RUN = """
import sys
from pathlib import Path
from mimix_core.settings import LatentSettings
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.wan import latents_stage
inputs = latents_stage.LatentInputs.model_validate_json(Path(sys.argv[1]).read_bytes())
run_stage(Store(Path(sys.argv[2])), latents_stage.STAGE, inputs, LatentSettings())
"""


def files(ref: TableRef) -> dict[str, str]:
    paths = (path for path in ref.folder.rglob("*") if path.is_file())
    return {p.name: digest_file(p) for p in paths if p.name != Store.RECORD}


@pytest.mark.e2e
def test_a_killed_unit_resumes_and_gives_the_same_bytes(
    tmp_path: Path, pipeline_folder: Path
) -> None:
    sizes = {f"c{n:02d}": (5, 64, 32) for n in range(24)}
    inputs = latent_inputs(made(tmp_path / "clips", sizes), pipeline_folder)
    (tmp_path / "inputs.json").write_text(inputs.model_dump_json())
    store = Store(tmp_path / "store")
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path / "inputs.json"), str(store.root)]
    )
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "parts").rglob("*.part"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(list((tmp_path / "parts").rglob("*.part")))
    assert finished < len(sizes)

    ref = run_stage(store, latents_stage.STAGE, inputs, LatentSettings()).ref
    effort = store.record(ref).runtime_stats
    assert effort["found"] == finished
    assert effort["encoded"] == len(sizes) - finished
    elsewhere = inputs.model_copy(update={"partial_results": tmp_path / "no-parts"})
    undisturbed = run_stage(
        Store(tmp_path / "other"), latents_stage.STAGE, elsewhere, LatentSettings()
    )
    assert files(ref) == files(undisturbed.ref)
    assert {row["status"] for row in tables.read(ref.path, LATENTS)} == {"ok"}
