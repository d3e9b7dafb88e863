"""The adapters that videos are generated with: the trained one and those of other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mimix_core.engine.artifacts import digest_file
from mimix_core.errors import BadInput
from mimix_core.settings import ExpertName
from mimix_core.wan import foreign_adapters
from mimix_core.wan.lora_formats import Adapter, sum_adapters
from mimix_core.wan.model_registry import Backbone


def read_any_adapter(
    path: Path,
    backbone: Backbone,
    base_sha256: str | None = None,
    *,
    expert: ExpertName | None = None,
) -> Adapter:
    """Read a LoRA file that MiMix or another program wrote, for a backbone.

    ``base_sha256``: digest of the transformer, if a MiMix adapter's base model shall be compared
    with it; without it only its name and ``expert``, the one of two that it is for. Raises BadInput
    for a file that is not a LoRA of Wan, that does not fit the backbone, that has tensors which
    cannot be applied, or NaN or Inf.
    """
    from mimix_core.wan import lora_export

    file = foreign_adapters.read_adapter_file(path)
    foreign_adapters.check_fits(file, backbone)
    if not lora_export.is_mimix_metadata(file.metadata):
        return foreign_adapters.read_foreign_adapter(path)
    metadata, _ = lora_export.read_metadata(path)
    if base_sha256 is None:
        if metadata.base != backbone.name:
            raise BadInput(
                f"was trained on {metadata.base}, not on {backbone.name}",
                where=str(path),
                fix="Leave it out, or set backbone.name to the model that it was trained on.",
            )
        if metadata.expert != expert:
            raise BadInput(
                f"was trained for the {metadata.expert} expert alone",
                where=str(path),
                fix=f"Give it with expert: {metadata.expert}.",
            )
    else:
        lora_export.check_base_model(path, backbone.name, base_sha256)
    adapter, _ = lora_export.read_adapter(path)
    return adapter


def load_generation_adapter(
    backbone: Backbone,
    base_sha256: str,
    trained: tuple[Path, float] | None,
    others: Sequence[tuple[Path, float]],
) -> tuple[Adapter | None, str]:
    """Load what a transformer generates with, and the digest of the trained adapter's file.

    ``base_sha256``: digest of the transformer. ``trained`` and ``others``: files and weights. It is
    the trained adapter itself, or the weighted sum; without any it is None, and the digest "".
    Raises BadInput for an adapter of another base model, or that does not fit the backbone.
    """
    from mimix_core.wan import lora_export

    adapters, weights, digest = [], [], ""
    if trained is not None:
        path, weight = trained
        lora_export.check_base_model(path, backbone.name, base_sha256)
        adapters.append(lora_export.read_adapter(path)[0])
        weights.append(weight)
        digest = digest_file(path)
    for path, weight in others:
        adapters.append(read_any_adapter(path, backbone, base_sha256))
        weights.append(weight)
    return (weighted_adapter(adapters, weights) if adapters else None), digest


def weighted_adapter(adapters: Sequence[Adapter], weights: Sequence[float]) -> Adapter:
    """Return the weighted sum of adapters; a single one with weight 1 stays as it is, bit by bit.

    Adapters with weight 0 are left out, unless all of them have it.
    """
    parts = list(zip(adapters, weights, strict=True))
    parts = [part for part in parts if part[1] != 0] or parts[:1]
    if len(parts) == 1 and parts[0][1] == 1:
        return parts[0][0]
    return sum_adapters(parts)
