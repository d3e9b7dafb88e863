"""Count a caption's tokens as the text encoder does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mimix_core.errors import BadInput, MissingModel

TOKENIZER_FILE = "tokenizer.json"


def load_token_counter(folder: Path) -> Callable[[str], int]:
    """Return a function that counts a text's tokens, including the end-of-sequence token.

    ``folder``: contains a ``tokenizer.json``, as Wan's folder ``tokenizer`` does. Raises BadInput
    without one, MissingModel without the package tokenizers.
    """
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise MissingModel(
            "captions.tokenizer needs the package tokenizers", fix="pip install tokenizers"
        ) from error
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise BadInput(
            f"has no {TOKENIZER_FILE}",
            where=str(folder),
            fix="Set captions.tokenizer to the folder `tokenizer` of the text-to-video model.",
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        # The package raises plain Exception for a file that it cannot read.
        raise BadInput(f"not a tokenizer ({error})", where=str(path)) from error
    # Some files truncate their input: the count would never exceed the limit.
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count_tokens(text: str) -> int:
        return len(tokenizer.encode(text).ids)

    return count_tokens
