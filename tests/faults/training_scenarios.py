"""Writers of what training makes: checkpoints and adapters."""

from __future__ import annotations

from pathlib import Path

from tests.faults.scenario import COUNT, Scenario, mark, prepare_nothing


def _tensors(step: int) -> dict[str, object]:
    import torch

    return {"weight": torch.full((64, 8), float(step)), "step": torch.tensor(step)}


def _write_checkpoints(root: Path) -> None:
    from mimix_core.training.checkpoint import lock_run, write_checkpoint

    with lock_run(root / "run", 5):
        for step in range(1, COUNT + 1):
            write_checkpoint(root / "run", step, _tensors(step), keep=2)  # type: ignore[arg-type]
            mark(step)


def _check_checkpoints(root: Path, promised: int) -> None:
    from mimix_core.training.checkpoint import latest_checkpoint, lock_run

    with lock_run(root / "run", 5):
        found = latest_checkpoint(root / "run", lambda _: None)
    step = found.step if found else 0
    assert step >= promised, f"checkpoint {step} is there, {promised} was promised"
    if found:
        tensors = found.load_tensors()
        assert bool((tensors["weight"] == step).all())


def _write_adapters(root: Path) -> None:
    import torch

    from mimix_core.wan.adapter_metadata import AdapterMetadata
    from mimix_core.wan.lora_export import write_adapter
    from mimix_core.wan.lora_formats import Adapter

    for number in range(1, COUNT + 1):
        value = float(number)
        layer = (torch.full((2, 8), value), torch.full((8, 2), value))
        adapter = Adapter({"blocks.0.attn1.to_q": layer}, alpha=2.0)
        metadata = AdapterMetadata(
            base="b", base_sha256="0" * 64, rank=2, alpha=2.0, targets=("to_q",),
            characters=(), styles=(), dataset_sha256="0" * 64, settings={},
        )  # fmt: skip
        write_adapter(root / "adapter.safetensors", adapter, metadata)
        mark(number)


def _check_adapters(root: Path, promised: int) -> None:
    from mimix_core.wan.lora_export import read_adapter

    path = root / "adapter.safetensors"
    if not path.exists():
        assert promised == 0, "the adapter is gone"
        return
    adapter, _ = read_adapter(path)
    values = {float(v) for pair in adapter.pairs.values() for one in pair for v in one.flatten()}
    assert len(values) == 1, f"the adapter is damaged: {values}"
    assert min(values) >= max(promised, 1), f"adapter {values}, {promised} was promised"


SCENARIOS = (
    Scenario("checkpoints", prepare_nothing, _write_checkpoints, _check_checkpoints),
    Scenario("adapters", prepare_nothing, _write_adapters, _check_adapters),
)
