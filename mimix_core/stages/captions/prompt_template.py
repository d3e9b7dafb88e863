"""Load prompt files: named parts, each a Jinja template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from mimix_core.errors import BadInput

DEFAULT_PROMPT_PATH = Path(__file__).parent / "prompts" / "caption-v2.md"

PARTS = ("system", "show", "reference", "clip", "composite", "again")

_PART = re.compile(r"^<!-- part: ([a-z]+) -->\n", re.MULTILINE)


@dataclass(frozen=True)
class PromptTemplate:
    """The parts of a prompt file by name."""

    parts: Mapping[str, jinja2.Template]
    path: Path

    def render(self, part: str, **values: Any) -> str:
        """Render a part with its values. Raises BadInput if it uses any other value."""
        try:
            return self.parts[part].render(values).strip()
        except jinja2.UndefinedError as error:
            raise BadInput(f"part {part}: {error.message}", where=str(self.path)) from error


def load_prompt_template(path: Path) -> PromptTemplate:
    """Load a prompt file. Raises BadInput for a missing, unknown or syntactically invalid part."""
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
        # The texts are sent to a model, never shown as HTML.
        autoescape=False,
    )
    try:
        parts = {name: environment.from_string(text) for name, text in texts.items()}
    except jinja2.TemplateSyntaxError as error:
        raise BadInput(str(error), where=str(path)) from error
    return PromptTemplate(parts, path)
