"""``mimix lora`` on a finished run: found by its settings, exported for another program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mimix_core.wan import lora_export
from mimix_core.wan.lora_formats import AdapterLayout
from tests.e2e.conftest import FinishedDemo
from tests.e2e.demo import ROOT

pytestmark = pytest.mark.e2e


def mimix_lora(finished: FinishedDemo, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "lora", *words],
        cwd=ROOT,
        env=finished.demo.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_adapter_of_a_run_is_exported_with_its_provenance(
    finished: FinishedDemo, tmp_path: Path
) -> None:
    demo, to = finished.demo, tmp_path / "for-comfyui.safetensors"
    where = ["--workspace", str(demo.workspace)]
    done = mimix_lora(finished, "export", str(demo.settings), *where, "--to", str(to))
    assert done.returncode == 0, done.stderr
    card, layout = lora_export.read_metadata(to)
    assert layout is AdapterLayout.COMFYUI
    [dataset] = demo.records("dataset")
    table = demo.store.lookup("dataset", dataset.key)
    assert table is not None
    assert card.base == "tiny-random-wan"
    assert card.dataset_sha256 == table.sha256
    assert card.settings["epochs"] == 12
    [trained] = demo.records("lora")
    written, _ = lora_export.read_adapter(
        demo.store.folder("lora", trained.key) / lora_export.ADAPTER_FILE
    )
    exported, _ = lora_export.read_adapter(to)
    assert list(exported.pairs) == list(written.pairs)

    shown = mimix_lora(finished, "show", str(to))
    assert shown.returncode == 0
    assert table.sha256 in shown.stdout


def test_exporting_an_untrained_run_is_an_error(finished: FinishedDemo, tmp_path: Path) -> None:
    words = ["export", str(finished.demo.settings), "--workspace", str(tmp_path / "empty")]
    done = mimix_lora(finished, *words, "--to", str(tmp_path / "x.safetensors"))
    assert done.returncode == 2
    assert "Run it first" in done.stderr
    ema = ["--workspace", str(finished.demo.workspace), "--ema"]
    words = ["export", str(finished.demo.settings), *ema, "--to", str(tmp_path / "x.safetensors")]
    done = mimix_lora(finished, *words)
    assert done.returncode == 2
    assert "lora.ema_decay" in done.stderr
