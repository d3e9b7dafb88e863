"""How long a caption is for the text encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mimix_core.errors import BadInput, MissingModel

FILE = "tokenizer.json"


def token_counter(folder: Path) -> Callable[[str], int]:
    """Counts tokens as the encoder reads them, its end mark included.

    ``folder``: with a ``tokenizer.json``, as Wan's ``tokenizer`` has it. Raises BadInput without
    one, MissingModel without the package that reads it.
    """
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise MissingModel(
            "captions.tokenizer needs the package tokenizers", fix="pip install tokenizers"
        ) from error
    path = folder / FILE
    if not path.is_file():
        raise BadInput(
            f"has no {FILE}",
            where=str(folder),
            fix="Set captions.tokenizer to the folder `tokenizer` of the text-to-video model.",
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        # The package raises bare Exception for a file it cannot read.
        raise BadInput(f"is no tokenizer ({error})", where=str(path)) from error
    # Some files cut what they encode: the count would then never be too high.
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(text: str) -> int:
        return len(tokenizer.encode(text).ids)

    return count
