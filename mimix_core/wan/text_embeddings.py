"""Stage ``embeddings``: each caption through UMT5, computed once.

Wan's rule: the caption is cleaned and cut to 512 tokens, UMT5 runs with its mask, the output is
cut to its true length (stored so) and later padded with zeros to 512.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mimix_core import tables
from mimix_core.domain.caption_grammar import Variant, render
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.settings import EmbeddingSettings
from mimix_core.stages.captions.caption_rows import caption_of
from mimix_core.tables import CAPTIONS, EMBEDDINGS, Reason, Row
from mimix_core.wan import model_registry, tensor_shards
from mimix_core.wan.model_registry import Rules

if TYPE_CHECKING:
    import torch


class EmbeddingInputs(FrozenModel):
    """Captions, and the two components that make embeddings of them.

    ``parts``: where finished embeddings of a unit under way lie.
    """

    unit: Annotated[str, ExcludeFromKey()]
    captions: TableRef
    backbone_name: str
    text_encoder: FileRef
    tokenizer: FileRef
    parts: Annotated[Path, ExcludeFromKey()]


def run(inputs: EmbeddingInputs, settings: EmbeddingSettings, out: Path) -> StageReport:
    """Embed every usable caption as the settings' variant of it; equal texts share one tensor.

    Notes: how many captions are longer than ``max_tokens`` and were cut. Raises Transient when the
    device has no memory left.
    """
    rules = model_registry.rules(model_registry.get(inputs.backbone_name))
    captions = list(tables.usable(tables.read(inputs.captions.path, CAPTIONS)))
    texts = {row["clip_id"]: variant_text(row, Variant(settings.variant)) for row in captions}
    wanted = sorted({text for text in texts.values() if text is not None})
    with tensor_shards.unit_parts(inputs.parts, STAGE.name, STAGE.key(inputs, settings)) as parts:
        full = _token_ids(rules, inputs.tokenizer.path, wanted)
        ids = {text: cut(tokens, settings.max_tokens) for text, tokens in full.items()}
        done = _embedded(rules, inputs, settings, ids, parts)
        places = tensor_shards.write_shards(out, "embeddings", done)
    rows: list[Row] = []
    for row in captions:
        text = texts[row["clip_id"]]
        same = {
            "sample_id": row["clip_id"],
            "backbone": inputs.backbone_name,
            "caption": row["caption"],
            "variant": settings.variant,
            "text": text or "",
        }
        if text is None:
            detail = "the caption has no actions to write anew"
            none = {"tokens": 0, "tokens_cut": 0, **tensor_shards.NOWHERE}
            rows.append(tables.failed(Reason.NO_CAPTION, detail, **same, **none))
            continue
        counts = {"tokens": len(ids[text]), "tokens_cut": len(full[text]) - len(ids[text])}
        rows.append(tables.ok(**same, **counts, **places[_key(text)].columns()))
    truncated = sum(row["tokens_cut"] > 0 for row in rows)
    return StageReport(rows, rows_in=len(captions), notes={"captions_cut": truncated})


def variant_text(row: Mapping[str, Any], variant: Variant) -> str | None:
    """A caption's row as the text that is embedded; None when it has no actions to write it of."""
    caption = caption_of(dict(row))
    return None if caption is None else render(caption, variant)


def cut(ids: Sequence[int], max_tokens: int) -> tuple[int, ...]:
    """At most so many tokens, the end mark kept, as Wan's tokenizer cuts."""
    if len(ids) <= max_tokens:
        return tuple(ids)
    return (*ids[: max_tokens - 1], ids[-1])


def batches(texts: Mapping[str, Sequence[int]], batch_tokens: int) -> Iterator[list[str]]:
    """Texts of like length together, at most ``batch_tokens`` a batch with its padding.

    What is in a batch depends on the texts alone, and a text longer than that is one of its own.
    """
    batch: list[str] = []
    for text in sorted(texts, key=lambda text: (len(texts[text]), text)):
        # Sorted: the newest is the longest, and all are padded to it.
        if batch and (len(batch) + 1) * len(texts[text]) > batch_tokens:
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch


def _token_ids(rules: Rules, folder: Path, texts: Sequence[str]) -> dict[str, list[int]]:
    if not texts:
        return {}
    return dict(zip(texts, rules.tokens(rules.load_tokenizer(folder), texts), strict=True))


def _embedded(
    rules: Rules,
    inputs: EmbeddingInputs,
    settings: EmbeddingSettings,
    ids: Mapping[str, Sequence[int]],
    parts: tensor_shards.Parts,
) -> dict[str, tensor_shards.Part]:
    """By its key, each text's embedding: one that an earlier attempt finished, or a new one."""
    from mimix_core.engine.gpu_lease import acquire_device
    from mimix_core.engine.torch_runtime import set_num_threads

    found = {_key(text): parts.find(_key(text)) for text in ids}
    done = {key: part for key, part in found.items() if part is not None}
    # The batches are those of the whole unit, so that no value depends on where it was killed.
    missing = [
        batch
        for batch in batches(ids, settings.batch_tokens)
        if any(_key(text) not in done for text in batch)
    ]
    if not missing:
        return done
    set_num_threads(settings.threads)
    progress.advance(len(done), len(ids), "waits for a free device")
    with acquire_device(settings.device) as device:
        for key, part in _embed(rules, inputs.text_encoder.path, device, ids, missing, parts):
            done[key] = part
            progress.advance(len(done), len(ids))
    return done


def _embed(
    rules: Rules,
    folder: Path,
    device: torch.device,
    ids: Mapping[str, Sequence[int]],
    missing: Sequence[Sequence[str]],
    parts: tensor_shards.Parts,
) -> Iterator[tuple[str, tensor_shards.Part]]:
    encoder = rules.load_text_encoder(folder, device)
    for batch in missing:
        embedded = rules.embed(encoder, [ids[text] for text in batch])
        for text, text_LD in zip(batch, embedded, strict=True):
            yield _key(text), parts.keep(_key(text), text_LD)


def _key(text: str) -> str:
    """The name of a text's tensor in its shard."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def load(tokenizer: Path, text_encoder: Path, device: torch.device) -> tuple[Any, Any]:
    """The tokenizer and the encoder."""
    return load_tokenizer(tokenizer), load_encoder(text_encoder, device)


def load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def load_encoder(folder: Path, device: torch.device) -> Any:
    """The encoder (``UMT5EncoderModel``) in the type of its stored weights."""
    from transformers import UMT5EncoderModel

    return UMT5EncoderModel.from_pretrained(folder, dtype="auto").eval().to(device)


def token_ids(tokenizer: Any, captions: Sequence[str]) -> list[list[int]]:
    """Each caption cleaned, as ids with the end mark, however many there are."""
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean

    found: list[list[int]] = tokenizer([prompt_clean(caption) for caption in captions]).input_ids
    return found


def embed_all(encoder: Any, ids: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """text_LD of each list of ids, on the CPU, cut to its true length.

    They run as one batch, padded and masked. A neighbour's length changes the order of sums and so
    the last bits, and nothing else.
    """
    import torch

    longest = max(len(one) for one in ids)
    ids_BL = torch.zeros(len(ids), longest, dtype=torch.long)
    mask_BL = torch.zeros(len(ids), longest, dtype=torch.long)
    for row, one in enumerate(ids):
        ids_BL[row, : len(one)] = torch.tensor(one)
        mask_BL[row, : len(one)] = 1
    with torch.no_grad():
        hidden_BLD = encoder(
            ids_BL.to(encoder.device), mask_BL.to(encoder.device)
        ).last_hidden_state
    hidden_BLD = hidden_BLD.cpu()
    return [hidden_BLD[row, : len(one)].clone() for row, one in enumerate(ids)]


STAGE = Stage(
    name="embeddings",
    title="Embeddings",
    description="Encode each caption with the backbone's text encoder, once.",
    row_noun="samples",
    phase=Phase.TRAINING,
    upstream=("captions", "recaptions", "backbone"),
    resources=frozenset({Resource.CPU, Resource.GPU}),
    version=2,
    inputs=EmbeddingInputs,
    settings=EmbeddingSettings,
    table=EMBEDDINGS,
    run=run,
)
