"""CLIP's tokenizer and text encoder, as ViCLIP uses them (openai/CLIP, MIT)."""

from __future__ import annotations

import gzip
import html
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from mimix_core.benchmark.vbench.networks.transformer import Transformer
from mimix_core.errors import BadInput, MissingModel

_MERGES = 49152 - 256 - 2
_MAX_VOCABULARY_CHARACTERS = 10_000_000
_END_OF_WORD = "</w>"


class Tokenizer:
    """Byte-pair encoding of lowercased text with OpenAI's vocabulary file."""

    def __init__(self, vocabulary: Path) -> None:
        """Raise BadInput for another kind of file, MissingModel without ftfy or regex."""
        try:
            import ftfy
            import regex
        except ImportError as error:
            raise MissingModel(
                f"CLIP's tokenizer needs the package {error.name}", fix="pip install 'mimix[bench]'"
            ) from error
        self._fix_text = ftfy.fix_text
        self._words = regex.compile(
            r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
            regex.IGNORECASE,
        )
        self._whitespace = regex.compile(r"\s+")
        self._letters = _byte_letters()
        merges = _read_merges(vocabulary)
        self._rank = {merge: rank for rank, merge in enumerate(merges)}
        single = list(self._letters.values())
        pieces = [*single, *(letter + _END_OF_WORD for letter in single), *map("".join, merges)]
        self._id = {piece: number for number, piece in enumerate(pieces)}
        self.start, self.end = len(pieces), len(pieces) + 1
        self._special = {"<|startoftext|>": self.start, "<|endoftext|>": self.end}
        self._word_ids = lru_cache(maxsize=4096)(self._encode_word)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without start and end token."""
        fixed = html.unescape(html.unescape(self._fix_text(text))).strip()
        plain = self._whitespace.sub(" ", fixed).strip().lower()
        return [token for word in self._words.findall(plain) for token in self._word_ids(word)]

    def encode_padded(self, text: str, length: int) -> Tensor:
        """Return tokens_L: start, the text truncated to fit, end, then zeros."""
        tokens = [self.start, *self.encode(text), self.end]
        if len(tokens) > length:
            tokens = [*tokens[: length - 1], self.end]
        return torch.tensor(tokens + [0] * (length - len(tokens)))

    def _encode_word(self, word: str) -> tuple[int, ...]:
        if word in self._special:
            return (self._special[word],)
        pieces = [self._letters[byte] for byte in word.encode()]
        pieces[-1] += _END_OF_WORD
        while len(pieces) > 1:
            best = min(pairwise(pieces), key=lambda pair: self._rank.get(pair, _MERGES))
            if best not in self._rank:
                break
            pieces = _merge_pair(pieces, best)
        return tuple(self._id[piece] for piece in pieces)


def _merge_pair(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    """Join every occurrence of ``pair``, from the left."""
    merged: list[str] = []
    index = 0
    while index < len(pieces):
        if tuple(pieces[index : index + 2]) == pair:
            merged.append(pieces[index] + pieces[index + 1])
            index += 2
        else:
            merged.append(pieces[index])
            index += 1
    return merged


def _byte_letters() -> dict[int, str]:
    """Map every byte to a printable character, in the vocabulary's order: printable bytes first."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), 256),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + number) for number, byte in enumerate(others)
    }


def _read_merges(vocabulary: Path) -> list[tuple[str, str]]:
    try:
        with gzip.open(vocabulary, "rt", encoding="utf-8") as stream:
            # Its first lines only: a gzip file may hold a thousand times its size.
            text = stream.read(_MAX_VOCABULARY_CHARACTERS)
        lines = text.split("\n")[1 : _MERGES + 1]
        merges = [(left, right) for left, right in (line.split() for line in lines)]
    except (OSError, EOFError, ValueError) as error:
        raise BadInput(
            f"not CLIP's vocabulary, a gzipped list of merges ({error})", where=str(vocabulary)
        ) from error
    if len(merges) != _MERGES:
        raise BadInput(
            f"not CLIP's vocabulary: {len(merges)} merges instead of {_MERGES}",
            where=str(vocabulary),
        )
    return merges


class TextEncoder(nn.Module):
    """Causal transformer: tokens_BL to embeddings_BD, read out at the end token."""

    def __init__(self, vocabulary: int, length: int, width: int, layers: int, out: int) -> None:
        super().__init__()
        self.transformer = Transformer(width, layers, causal=True)
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(length, width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, out))

    def forward(self, tokens_BL: Tensor) -> Tensor:
        tokens_BLD = self.token_embedding(tokens_BL) + self.positional_embedding
        tokens_BLD = self.ln_final(self.transformer(tokens_BLD))
        # The end token has the highest id.
        ends_BD = tokens_BLD[torch.arange(len(tokens_BL)), tokens_BL.argmax(dim=-1)]
        out_BD: Tensor = ends_BD @ self.text_projection
        return out_BD
