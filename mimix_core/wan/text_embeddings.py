"""Stage ``embeddings``: encode each caption with UMT5, once.

As in Wan: the caption is cleaned and truncated to 512 tokens, UMT5 runs with an attention mask, and
the output is stored without padding and later padded with zeros to 512.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mimix_core import tables
from mimix_core.domain.caption_grammar import CaptionVariant, caption_from_row, render_caption
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey, key_parts
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.settings import EmbeddingSettings
from mimix_core.tables import CAPTIONS, EMBEDDINGS, CaptionRow, Reason, Row
from mimix_core.wan import model_registry, tensor_shards
from mimix_core.wan.backbone import MAX_TEXT_TOKENS
from mimix_core.wan.earlier_embeddings import find_earlier_embeddings
from mimix_core.wan.model_registry import BackboneInterface

if TYPE_CHECKING:
    import torch


class EmbeddingInputs(FrozenModel):
    """Captions, and the two components that embed them.

    ``partial_results``: folder of finished embeddings of interrupted units. ``earlier_results``:
    the store's folder of this stage, in which equal texts are found.
    """

    unit: Annotated[str, ExcludeFromKey()]
    captions: TableRef
    backbone_name: str
    backbone_source: FileRef | None = None
    text_encoder: FileRef
    tokenizer: FileRef
    partial_results: Annotated[Path, ExcludeFromKey()]
    earlier_results: Annotated[Path | None, ExcludeFromKey()] = None


def run(inputs: EmbeddingInputs, settings: EmbeddingSettings, out: Path) -> StageReport:
    """Embed the variant of every usable caption; equal texts share one tensor.

    Notes: the number of captions that were truncated to ``max_tokens``. Runtime stats: the numbers
    of texts encoded, reused from earlier results, and found as parts of an interrupted attempt.
    Raises BadInput for a text encoder that gives NaN or Inf, and Transient when the device is out
    of memory.
    """
    backbone = model_registry.get_backbone(inputs.backbone_name)
    interface = model_registry.load_interface(backbone)
    max_tokens = min(settings.max_tokens, backbone.text_tokens)
    captions = list(tables.usable(tables.read(inputs.captions.path, CAPTIONS)))
    texts = {
        row["clip_id"]: caption_text(row, CaptionVariant(settings.variant)) for row in captions
    }
    unique_texts = sorted({text for text in texts.values() if text is not None})
    stage_key = STAGE.key(inputs, settings)
    with tensor_shards.open_partial_results(
        inputs.partial_results, STAGE.name, stage_key
    ) as results:
        full = _tokenize(interface, inputs.tokenizer.path, unique_texts)
        ids = {text: truncate_tokens(tokens, max_tokens) for text, tokens in full.items()}
        done, stats = _embed_texts(interface, inputs, settings, ids, results)
        locations = tensor_shards.write_shards(out, "embeddings", done)
    rows: list[Row] = []
    for row in captions:
        text = texts[row["clip_id"]]
        shared = {
            "sample_id": row["clip_id"],
            "backbone": inputs.backbone_name,
            "caption": row["caption"],
            "variant": settings.variant,
            "text": text or "",
        }
        if text is None:
            detail = "the caption has no actions to render"
            none = {"tokens": 0, "tokens_cut": 0, **tensor_shards.NO_TENSOR}
            rows.append(tables.failed(Reason.NO_CAPTION, detail, **shared, **none))
            continue
        counts = {"tokens": len(ids[text]), "tokens_cut": len(full[text]) - len(ids[text])}
        rows.append(tables.ok(**shared, **counts, **locations[_key(text)].columns()))
    truncated = sum(row["tokens_cut"] > 0 for row in rows)
    return StageReport(
        rows, rows_in=len(captions), notes={"captions_cut": truncated}, runtime_stats=stats
    )


def caption_text(row: CaptionRow, variant: CaptionVariant) -> str | None:
    """Render a caption as the text to embed; None for a caption without actions."""
    caption = caption_from_row(row)
    return None if caption is None else render_caption(caption, variant)


def truncate_tokens(ids: Sequence[int], max_tokens: int) -> tuple[int, ...]:
    """Truncate to ``max_tokens``, end token included, like Wan's tokenizer."""
    if len(ids) <= max_tokens:
        return tuple(ids)
    return (*ids[: max_tokens - 1], ids[-1])


def _tokenize(
    interface: BackboneInterface, folder: Path, texts: Sequence[str]
) -> dict[str, list[int]]:
    if not texts:
        return {}
    return dict(
        zip(texts, interface.tokenize(interface.load_tokenizer(folder), texts), strict=True)
    )


def _embed_texts(
    interface: BackboneInterface,
    inputs: EmbeddingInputs,
    settings: EmbeddingSettings,
    ids: Mapping[str, Sequence[int]],
    results: tensor_shards.PartialResults,
) -> tuple[dict[str, tensor_shards.PartialResult], dict[str, str | int | float]]:
    """Return each text's embedding by key, with the numbers of those encoded and reused."""
    finished = {_key(text): results.get(_key(text)) for text in ids}
    done = {key: result for key, result in finished.items() if result is not None}
    found = len(done)
    if inputs.earlier_results is not None:
        done |= find_earlier_embeddings(
            inputs.earlier_results,
            STAGE.version,
            key_parts(inputs, settings),
            {_key(text): text for text in ids if _key(text) not in done},
        )
    missing = [text for text in ids if _key(text) not in done]
    stats: dict[str, str | int | float] = {
        "encoded": len(missing),
        "reused": len(done) - found,
        "found": found,
    }
    if missing:
        done |= _encode_texts(
            interface, inputs, settings, {text: ids[text] for text in missing}, results
        )
    return done, stats


def _encode_texts(
    interface: BackboneInterface,
    inputs: EmbeddingInputs,
    settings: EmbeddingSettings,
    ids: Mapping[str, Sequence[int]],
    results: tensor_shards.PartialResults,
) -> dict[str, tensor_shards.PartialResult]:
    """Encode texts one by one: in a batch, the last bits of one would depend on the others."""
    from mimix_core.engine.gpu_lease import acquire_device
    from mimix_core.engine.torch_runtime import set_num_threads

    set_num_threads(settings.threads)
    progress.report_progress(0, len(ids), "waiting for a free device")
    done = {}
    with acquire_device(settings.device) as device:
        encoder = interface.load_text_encoder(inputs.text_encoder.path, device)
        for text, tokens in ids.items():
            [text_LD] = interface.embed_tokens(encoder, [tokens])
            done[_key(text)] = results.put(_key(text), check_finite_embedding(text_LD, text))
            progress.report_progress(len(done), len(ids))
    return done


def _key(text: str) -> str:
    """Return the key of a text's tensor in its shard."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def load_text_models(tokenizer: Path, text_encoder: Path, device: torch.device) -> tuple[Any, Any]:
    """Load the tokenizer and the text encoder."""
    return load_tokenizer(tokenizer), load_text_encoder(text_encoder, device)


def load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def load_text_encoder(folder: Path, device: torch.device) -> Any:
    """Load the text encoder (``UMT5EncoderModel``) in the dtype of its stored weights.

    Raises BadInput if its two names of the token table do not mean one table.
    """
    from transformers import UMT5EncoderModel

    encoder = UMT5EncoderModel.from_pretrained(folder, dtype="auto").eval()
    check_tied_tables(encoder, str(folder))
    return encoder.to(device)


def check_tied_tables(encoder: Any, where: str) -> None:
    """Raise BadInput unless the encoder reads tokens from the table that its file stores.

    UMT5 has one table under two names, of which a file stores only one. transformers 5.0 to 5.2
    fill the other with random values: every embedding is then garbage.
    """
    import torch
    import transformers

    stored, used = encoder.shared.weight, encoder.encoder.embed_tokens.weight
    if stored.data_ptr() != used.data_ptr() and not torch.equal(stored, used):
        raise BadInput(
            "the text encoder was loaded with two different token tables (shared and "
            f"encoder.embed_tokens) by transformers {transformers.__version__}",
            where=where,
            fix="Install transformers 5.3 or newer, or download the model again.",
        )


def check_finite_embedding(text_LD: torch.Tensor, text: str) -> torch.Tensor:
    """Return the embedding of a text. Raises BadInput if it contains NaN or Inf."""
    if not bool(text_LD.isfinite().all()):
        raise BadInput(
            f"the text encoder gives non-finite values (NaN or Inf) for {shorten_text(text)!r}",
            where="settings, key backbone.path, folder text_encoder",
            fix="Download the model again; in fp16 its values overflow, so use bf16 or fp32.",
        )
    return text_LD


TEXT_TOKENS = MAX_TEXT_TOKENS
"""Tokens that embeddings are padded to, the maximum of a text in Wan (``Backbone.text_tokens``)."""

PROMPTS_CUT_NOTE = "prompts_cut"
"""Note of a stage's record: which prompts were truncated, and how long they are."""


def describe_truncated(lengths: Iterable[tuple[str, int]], limit: int) -> str:
    """Describe the texts that are longer than ``limit`` tokens, by name; empty if none is."""
    too_long = [f"{name} ({length} tokens)" for name, length in lengths if length > limit]
    more = f" and {len(too_long) - 10} more" if len(too_long) > 10 else ""
    return ", ".join(too_long[:10]) + more


def shorten_text(text: str, characters: int = 60) -> str:
    """Shorten a text for a message."""
    return text if len(text) <= characters else f"{text[: characters - 3]}..."


def tokenize_captions(tokenizer: Any, captions: Sequence[str]) -> list[list[int]]:
    """Clean each caption and tokenize it, end token included, without truncation."""
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean

    ids: list[list[int]] = tokenizer([prompt_clean(caption) for caption in captions]).input_ids
    return ids


def embed_tokens(encoder: Any, ids: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Embed each token list as text_LD without padding, on the CPU.

    They run as one padded and masked batch. The other lengths in the batch affect the order of
    summation, and with it only the last bits.
    """
    import torch

    longest = max(len(tokens) for tokens in ids)
    ids_BL = torch.zeros(len(ids), longest, dtype=torch.long)
    mask_BL = torch.zeros(len(ids), longest, dtype=torch.long)
    for row, tokens in enumerate(ids):
        ids_BL[row, : len(tokens)] = torch.tensor(tokens)
        mask_BL[row, : len(tokens)] = 1
    with torch.no_grad():
        hidden_BLD = encoder(
            ids_BL.to(encoder.device), mask_BL.to(encoder.device)
        ).last_hidden_state
    hidden_BLD = hidden_BLD.cpu()
    return [hidden_BLD[row, : len(tokens)].clone() for row, tokens in enumerate(ids)]


STAGE = Stage(
    name="embeddings",
    title="Embeddings",
    description="Encode each caption with the backbone's text encoder, once.",
    row_noun="samples",
    phase=Phase.TRAINING,
    upstream=("captions", "recaptions", "backbone"),
    resources=frozenset({Resource.CPU, Resource.GPU}),
    version=3,
    inputs=EmbeddingInputs,
    settings=EmbeddingSettings,
    table=EMBEDDINGS,
    run=run,
)
