"""Tokenizer and text encoder of ``miniature-wan``, with the interface that MiMix uses of UMT5.

The encoder has no knowledge of language: a frozen random vector for each word piece, plus one for
its sentence and one for its place in the sentence, then one trained projection. So a new name means
nothing before a LoRA, and all names are equally far apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from miniature import figures
from miniature.scenes import ALONE, BACKGROUNDS, TOGETHER

PAD, END, UNKNOWN = range(3)
_SPECIAL = ("<pad>", "</s>", "<unk>")
_PIECE = re.compile(r"[A-Za-z]+|[^\sA-Za-z]")
_SENTENCES, _PLACES = 16, 128
_GRAMMAR = "[ ] , . : - Character scene style a an and that with on of in the to at is"


def build_vocabulary() -> tuple[str, ...]:
    """Return all pieces: the words of captions, all possible names, and single characters."""
    texts = [
        _GRAMMAR,
        *figures.STYLES,
        *BACKGROUNDS,
        *ALONE,
        *(phrase.replace("{other}", "") for pair in TOGETHER.values() for phrase in pair),
        *(value for values in figures.ATTRIBUTES.values() for value in values),
    ]
    words = dict.fromkeys(piece for text in texts for piece in _PIECE.findall(text))
    characters = dict.fromkeys(chr(code) for code in range(33, 127))
    return tuple(dict.fromkeys((*_SPECIAL, *characters, *words, *figures.all_names())))


@dataclass(frozen=True)
class Encoding:
    """What the tokenizer returns."""

    input_ids: list[list[int]]


class MiniatureTokenizer:
    """Split captions into known words, names and signs; unknown words into characters."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = tuple(vocabulary)
        self._ids = {piece: index for index, piece in enumerate(self.vocabulary)}

    def __call__(self, texts: Sequence[str]) -> Encoding:
        """Tokenize texts, end token included, without truncation."""
        return Encoding([self._encode(text) for text in texts])

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in _PIECE.findall(text):
            if piece in self._ids:
                ids.append(self._ids[piece])
            else:
                ids.extend(self._ids.get(character, UNKNOWN) for character in piece)
        return [*ids, END]

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "vocabulary.json").write_text(json.dumps(self.vocabulary))

    @classmethod
    def from_pretrained(cls, folder: Path) -> MiniatureTokenizer:
        return cls(json.loads((folder / "vocabulary.json").read_text()))


@dataclass(frozen=True)
class EncoderOutput:
    """What the text encoder returns, named as in transformers."""

    last_hidden_state: torch.Tensor


class MiniatureTextEncoder(nn.Module):
    """Frozen random embeddings of pieces, sentences and places; one trained projection."""

    def __init__(self, vocabulary_size: int, width: int = 256, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.sizes = {"vocabulary_size": vocabulary_size, "width": width, "seed": seed}
        for name, rows, scale in (
            ("pieces", vocabulary_size, 1.0),
            ("sentences", _SENTENCES, 1.0),
            ("places", _PLACES, 0.3),
        ):
            table = torch.randn(rows, width, generator=generator) * scale
            # Not stored: the seed makes them again.
            self.register_buffer(name, table, persistent=False)
        self.full_stop: int = build_vocabulary().index(".")
        self.projection = nn.Linear(width, width)

    @property
    def device(self) -> torch.device:
        return self.projection.weight.device

    def forward(self, ids_BL: torch.Tensor, mask_BL: torch.Tensor) -> EncoderOutput:
        """Embed padded ids as hidden_BLD, zero where the mask is zero."""
        ends_BL = (ids_BL == self.full_stop).long()
        sentence_BL = (ends_BL.cumsum(1) - ends_BL).clamp(max=_SENTENCES - 1)
        index_L = torch.arange(ids_BL.shape[1], device=ids_BL.device)
        before_BL = torch.where(ends_BL > 0, index_L + 1, 0).cummax(1).values
        start_BL = torch.nn.functional.pad(before_BL[:, :-1], (1, 0))
        place_BL = (index_L - start_BL).clamp(max=_PLACES - 1)
        pieces, sentences, places = (
            self.get_buffer(name) for name in ("pieces", "sentences", "places")
        )
        sum_BLD = pieces[ids_BL] + sentences[sentence_BL] + places[place_BL]
        hidden_BLD = self.projection(sum_BLD)
        return EncoderOutput(hidden_BLD * mask_BL.unsqueeze(-1).to(hidden_BLD.dtype))

    def save_pretrained(self, folder: Path) -> None:
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        config = {"_class_name": type(self).__name__, **self.sizes}
        (folder / "config.json").write_text(json.dumps(config))
        save_file(self.state_dict(), folder / "model.safetensors")

    @classmethod
    def from_pretrained(cls, folder: Path, **_: Any) -> MiniatureTextEncoder:
        from safetensors.torch import load_file

        config = json.loads((folder / "config.json").read_text())
        del config["_class_name"]
        model = cls(**config)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model
