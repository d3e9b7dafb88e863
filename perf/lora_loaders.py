"""Compare what other programs' own loaders make of every LoRA layout with what MiMix makes of it.

``python perf/lora_loaders.py NAME=FOLDER[@COMMIT] ...`` writes one random adapter (rank 4, alpha 6,
all layers that MiMix adapts by default) of a small random Wan in every layout that ``mimix lora
export`` writes, in fp32. Each program's own code then merges each file into the same weights under
its own names, in its own process (``perf/lora_peers.py``, which lists the names). FOLDER is a
checkout of the program's source or, where it is a Python package, the package's parent folder. The
error is the largest difference from MiMix's merged weights, relative to the largest change.

diffusers needs no argument. Writes perf/results/lora_loaders.json and the table in docs/lora.md,
and exits with 1 if an error is above 1e-6 or a layout is not read that the program should read.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from mimix_core.wan import lora, lora_export, lora_formats, random_backbone, safetensors_io
from mimix_core.wan.generation import adapter_merging
from mimix_core.wan.lora_formats import Adapter, AdapterDtype, AdapterLayout
from perf.record import ROOT, record
from tests.wan.test_lora_export import card

PAGE = ROOT / "docs" / "lora.md"
LIMIT = 1e-6
RANK, ALPHA = 4, 6
OUTSIDE = "outside"
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")
OUTSIDE_TARGETS = (
    "proj_out",
    "condition_embedder.time_proj",
    "condition_embedder.text_embedder.linear_1",
    "condition_embedder.text_embedder.linear_2",
    "condition_embedder.time_embedder.linear_1",
    "condition_embedder.time_embedder.linear_2",
)
EXPECTED = {
    "diffusers": ("diffusers", "comfyui", "kohya"),
    "comfyui": ("comfyui", "kohya"),
    "musubi-tuner": ("kohya",),
    "musubi-tuner, convert_lora": ("comfyui",),
    "diffusion-pipe": ("comfyui",),
    "diffsynth-studio": ("comfyui",),
    "fastvideo": ("comfyui",),
    "lightx2v": ("comfyui",),
    "wan2gp": ("comfyui", "kohya"),
}
"""The layouts that each program should read."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="NAME=FOLDER[@COMMIT]")
    peers = [_parse_peer(text) for text in parser.parse_args().peers]
    peers.insert(0, ("diffusers", "", version("diffusers")))
    with tempfile.TemporaryDirectory(prefix="mimix-perf-") as name:
        work = Path(name)
        ours, changes, bf16_error = _write_inputs(work)
        rows = [_compare(peer, work, ours, changes) for peer in peers]
    figures, wrong = _summarize(rows)
    figures["bf16_error"] = float(f"{bf16_error:.2g}")
    units = {
        "loaders": "loaders of other programs that were run",
        "read": "pairs of loader and layout that are read completely",
        "worst_error": "largest error of a merged weight, relative to the largest change",
        "not_read": "pairs that should be read and are not, or with an error above 1e-6",
        "bf16_error": "relative error of the changes (Frobenius norm) of an export in bf16",
    }
    path = record("lora_loaders", figures, units, note="Table: docs/lora.md.")
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"table": rows}, indent=1) + "\n")
    _write_table(rows)
    print(json.dumps(rows, indent=1), figures, *wrong, sep="\n")
    return 1 if wrong else 0


def _parse_peer(text: str) -> tuple[str, str, str]:
    name, _, rest = text.partition("=")
    folder, _, commit = rest.partition("@")
    if name not in EXPECTED:
        raise SystemExit(f"{name} is not one of {', '.join(EXPECTED)}")
    return name, folder, commit


def _write_inputs(work: Path) -> tuple[dict[str, torch.Tensor], dict[str, float], float]:
    """Write base weights and adapter files; return our merged weights by Wan's own names.

    Also return the largest change of each, and the relative error of an export in bf16.
    """
    random_backbone.build_random_backbone(0, work / "wan")
    folder = work / "wan" / "transformer"
    transformer = lora.load_transformer(folder, torch.float32)
    base = {name: weight.clone() for name, weight in transformer.state_dict().items()}
    inside = [name for name in _linear_layers(transformer) if name.endswith(TARGETS)]
    adapters = {"": _random_adapter(transformer, inside)}
    adapters[OUTSIDE] = _random_adapter(transformer, [*inside, *OUTSIDE_TARGETS])
    for kind, adapter in adapters.items():
        for layout in AdapterLayout:
            if kind != OUTSIDE or layout is not AdapterLayout.KOHYA:
                path = work / f"adapter-{layout}{kind}.safetensors"
                lora_export.write_adapter(path, adapter, card(rank=RANK, alpha=ALPHA), layout)
    own = {layer: _own_name(layer) for layer in adapters[OUTSIDE].pairs}
    # Whole weights, under the names of Wan's own code: what most programs load.
    safetensors_io.write_tensors(
        work / "base.safetensors",
        {f"{name}.weight": base[f"{layer}.weight"] for layer, name in own.items()},
    )
    bf16 = work / "bf16.safetensors"
    lora_export.write_adapter(
        bf16, adapters[""], card(rank=RANK, alpha=ALPHA), AdapterLayout.COMFYUI, AdapterDtype.BF16
    )
    stored = adapter_merging.StoredWeights(folder)
    adapter_merging.merge_adapter(transformer, stored, adapters[OUTSIDE])
    merged = {own[layer]: transformer.get_submodule(layer).weight for layer in own}
    changes = {
        own[layer]: float((merged[own[layer]] - base[f"{layer}.weight"]).abs().max())
        for layer in own
    }
    return merged, changes, _change_error(lora_export.read_adapter(bf16)[0], adapters[""])


def _linear_layers(transformer: Any) -> list[str]:
    modules = transformer.named_modules()
    return [name for name, module in modules if isinstance(module, torch.nn.Linear)]


def _random_adapter(transformer: Any, layers: list[str]) -> Adapter:
    pairs = {}
    for layer in sorted(layers):
        outputs, inputs = transformer.get_submodule(layer).weight.shape
        numbers = torch.Generator().manual_seed(sum(layer.encode()))
        pairs[layer] = (
            torch.randn(RANK, inputs, generator=numbers) * 0.2,
            torch.randn(outputs, RANK, generator=numbers) * 0.2,
        )
    return Adapter(pairs, float(ALPHA))


def _own_name(layer: str) -> str:
    """Return a layer's name in Wan's own code."""
    one = Adapter({layer: (torch.zeros(1, 1), torch.zeros(1, 1))}, 1.0)
    name = min(lora_formats.adapter_to_tensors(one, AdapterLayout.COMFYUI))
    return name.removeprefix("diffusion_model.").removesuffix(".lora_A.weight")


def _change_error(found: Adapter, expected: Adapter) -> float:
    difference = total = 0.0
    for layer, (down, up) in expected.pairs.items():
        exact = up.double() @ down.double() * (expected.alpha / expected.rank)
        other_down, other_up = found.pairs[layer]
        other = other_up.double() @ other_down.double() * (found.alpha / found.rank)
        difference += float((other - exact).square().sum())
        total += float(exact.square().sum())
    return float((difference / total) ** 0.5)


def _compare(
    peer: tuple[str, str, str],
    work: Path,
    ours: dict[str, torch.Tensor],
    changes: dict[str, float],
) -> dict[str, Any]:
    """Run a program's loader on every file and compare the weights that it wrote."""
    name, folder, commit = peer
    done = subprocess.run(
        [sys.executable, str(ROOT / "perf" / "lora_peers.py"), name, folder, str(work)],
        cwd=work,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    row: dict[str, Any] = {"loader": name, "commit": commit}
    if done.returncode != 0:
        print(done.stdout, done.stderr)
        row["not_run"] = (done.stderr.strip().splitlines() or ["no output"])[-1][:200]
        return row
    inside = [layer for layer in ours if layer.startswith("blocks.")]
    for layout in AdapterLayout:
        row[layout.value] = _compare_file(work, name, layout.value, ours, changes, inside)
    carried = {}
    for carrying in ("comfyui", "diffusers"):
        merged = _read_merged(work, name, f"{carrying}{OUTSIDE}")
        base = safetensors_io.read_tensors(work / "base.safetensors")
        carried[carrying] = sum(
            not torch.equal(merged.get(f"{layer}.weight", value), value)
            for layer, value in ((o, base[f"{o}.weight"]) for o in ours if o not in inside)
        )
    row["outside_blocks"] = max(carried.values())
    return row


def _compare_file(
    work: Path,
    peer: str,
    layout: str,
    ours: dict[str, torch.Tensor],
    changes: dict[str, float],
    layers: list[str],
) -> float | str:
    """Return the error of a layout, or in words why there is none."""
    refusal = work / f"{_stem(peer)}-{layout}.txt"
    if refusal.exists():
        return f"refused: {refusal.read_text().replace(f'{work}/', '')[:120]}"
    merged = _read_merged(work, peer, layout)
    base = safetensors_io.read_tensors(work / "base.safetensors")
    changed = [
        layer
        for layer in layers
        if not torch.equal(merged[f"{layer}.weight"], base[f"{layer}.weight"])
    ]
    if len(changed) < len(layers):
        return f"{len(changed)} of {len(layers)} layers"
    return max(
        float((merged[f"{layer}.weight"] - ours[layer]).abs().max()) / changes[layer]
        for layer in layers
    )


def _read_merged(work: Path, peer: str, layout: str) -> dict[str, torch.Tensor]:
    path = work / f"{_stem(peer)}-{layout}.safetensors"
    return safetensors_io.read_tensors(path) if path.exists() else {}


def _stem(peer: str) -> str:
    return peer.replace(", ", "-")


def _summarize(rows: list[dict[str, Any]]) -> tuple[dict[str, float], list[str]]:
    run = [row for row in rows if "not_run" not in row]
    read = [row[layout] for row in run for layout in AdapterLayout if _is_read(row[layout])]
    wrong = [
        f"{row['loader']} does not read {layout}: {row[layout]}"
        for row in run
        for layout in EXPECTED[row["loader"]]
        if not _is_read(row[layout]) or row[layout] > LIMIT
    ]
    figures = {
        "loaders": float(len(run)),
        "read": float(len(read)),
        "worst_error": float(f"{max(read):.2g}"),
        "not_read": float(len(wrong)),
    }
    return figures, wrong


def _is_read(cell: object) -> bool:
    return isinstance(cell, float)


def _write_table(rows: list[dict[str, Any]]) -> None:
    """Write the table of docs/lora.md between its markers."""
    begin, end = "<!-- lora_loaders -->", "<!-- /lora_loaders -->"
    lines = ["| loader | commit or version | `diffusers` | `comfyui` | `kohya` | outside blocks |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        if "not_run" in row:
            cells = [f"not run: {row['not_run']}", "", "", ""]
        else:
            cells = [_cell(row[layout]) for layout in AdapterLayout]
            cells.append(f"{row['outside_blocks']} of {len(OUTSIDE_TARGETS)}")
        lines.append(f"| {row['loader']} | {row['commit'][:10]} | {' | '.join(cells)} |")
    page = PAGE.read_text()
    head, rest = page.split(begin, 1)
    PAGE.write_text(f"{head}{begin}\n" + "\n".join(lines) + f"\n{end}" + rest.split(end, 1)[1])


def _cell(value: object) -> str:
    return f"{value:.1e}" if isinstance(value, float) else "no"


if __name__ == "__main__":
    raise SystemExit(main())
