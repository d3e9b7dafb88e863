"""What ``mimix lora show`` prints of an adapter file, as names and values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mimix_core.wan.adapter_metadata import AdapterMetadata
    from mimix_core.wan.foreign_adapters import AdapterFile


def describe_trained(file: Path) -> list[tuple[str, str]]:
    """List the metadata of a MiMix adapter."""
    from mimix_core.wan import lora_export

    metadata, layout = lora_export.read_metadata(file)
    return [
        ("base", f"{metadata.base}, sha256 {metadata.base_sha256}"),
        *((("expert", metadata.expert),) if metadata.expert else ()),
        ("weights", "EMA of the training" if metadata.weights == "ema" else "as trained"),
        ("epoch", "final" if metadata.epoch is None else str(metadata.epoch)),
        *_describe_forgetting(metadata),
        ("rank, alpha", f"{metadata.rank}, {metadata.alpha:g}"),
        ("layers", ", ".join(metadata.targets)),
        ("prompts", metadata.grammar),
        ("characters", ", ".join(metadata.characters) or "none"),
        ("styles", ", ".join(metadata.styles) or "none"),
        ("dataset", f"sha256 {metadata.dataset_sha256}"),
        ("layout", layout.value),
        ("MiMix", metadata.mimix),
        *((name, str(value)) for name, value in sorted(metadata.settings.items())),
    ]


def _describe_forgetting(metadata: AdapterMetadata) -> list[tuple[str, str]]:
    """List what adding a character cost the old ones; nothing for other adapters."""
    from mimix_core.training.forgetting import describe_forgetting

    rows = []
    if metadata.step is not None:
        later = "the last validation at which old characters were within lora.max_forgetting"
        rows.append(("step", f"{metadata.step}, {later}; more were trained"))
    if metadata.forgetting:
        rows.append(("forgetting", describe_forgetting(metadata.forgetting)))
    return rows


def describe_foreign(file: AdapterFile) -> list[tuple[str, str]]:
    """List what the file of another program's adapter says: nothing of its training."""
    from mimix_core.wan import foreign_adapters
    from mimix_core.wan.layer_names import split_layer

    def number(values: Iterable[float]) -> str:
        some = sorted(set(values))
        return f"{some[0]:g}" if len(some) == 1 else f"{some[0]:g} to {some[-1]:g}"

    blocks = {block for block, _ in map(split_layer, file.layers) if block}
    outside = sorted(layer for layer in file.layers if not split_layer(layer)[0])
    return [
        ("layout", foreign_adapters.describe_layout(file)),
        ("data type", ", ".join(file.dtypes)),
        ("rank", number(map(file.rank, file.layers))),
        ("alpha", number(foreign_adapters.read_alphas(file).values())),
        ("layers", ", ".join(sorted({tail for _, tail in map(split_layer, file.layers)}))),
        ("blocks", str(len(blocks))),
        ("outside blocks", ", ".join(outside) or "none"),
        ("also changes", f"{len(file.changes)} whole parameters" if file.changes else "nothing"),
        ("fits", ", ".join(foreign_adapters.fitting_backbones(file)) or "no backbone of MiMix"),
    ]
