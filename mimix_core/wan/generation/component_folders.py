"""Name the folders of a backbone's components."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mimix_core.wan.model_registry import Backbone


@dataclass(frozen=True)
class ComponentFolders:
    """The folders of the backbone's components; ``transformer_2``: of the low-noise expert."""

    backbone: Backbone
    transformer: Path
    vae: Path
    text_encoder: Path
    tokenizer: Path
    scheduler: Path
    transformer_2: Path | None = None
