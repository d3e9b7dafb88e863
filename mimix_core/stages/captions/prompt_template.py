"""The prompt file: named parts, each a Jinja template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from mimix_core.errors import BadInput

DEFAULT = Path(__file__).parent / "prompts" / "caption-v1.md"

PARTS = ("system", "show", "reference", "clip", "composite", "again")

_PART = re.compile(r"^<!-- part: ([a-z]+) -->\n", re.MULTILINE)


@dataclass(frozen=True)
class Prompt:
    """The parts by name."""

    parts: Mapping[str, jinja2.Template]
    path: Path

    def text(self, part: str, **values: Any) -> str:
        """A part with its values filled in. Raises BadInput for a value that it is not given."""
        try:
            return self.parts[part].render(values).strip()
        except jinja2.UndefinedError as error:
            raise BadInput(f"part {part}: {error.message}", where=str(self.path)) from error


def read_prompt(path: Path) -> Prompt:
    """Read a prompt file. Raises BadInput for a part that is missing, unknown or no template."""
    pieces = _PART.split(path.read_text(encoding="utf-8"))
    texts = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    if sorted(texts) != sorted(PARTS):
        raise BadInput(
            f"has the parts {', '.join(texts) or 'none'}",
            where=str(path),
            fix=f"A prompt has {', '.join(PARTS)}, each after a line `<!-- part: NAME -->`.",
        )
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # The texts go to a model and into no page.
        autoescape=False,
    )
    try:
        parts = {name: environment.from_string(text) for name, text in texts.items()}
    except jinja2.TemplateSyntaxError as error:
        raise BadInput(str(error), where=str(path)) from error
    return Prompt(parts, path)
