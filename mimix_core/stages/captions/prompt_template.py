"""Load prompt files: named parts, each a Jinja template.

People pass prompt files on, so a template is text and no program: it runs in Jinja's sandbox,
without attributes that lead to Python, without functions, and without operators that make much of
little.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mimix_core.errors import BadInput
from mimix_core.vlm.data_blocks import DATA_RULE, data_block

DEFAULT_PROMPT_PATH = Path(__file__).parent / "prompts" / "caption-v3.md"

PARTS = ("system", "show", "reference", "clip", "composite", "again")

MAX_RENDERED_CHARACTERS = 1_000_000

_REMOVED_FILTERS = ("attr", "center", "format", "indent", "map", "pprint", "wordwrap", "xmlattr")
"""Filters that read attributes by name, call others, or pad a text to any width."""

_PART = re.compile(r"^<!-- part: ([a-z]+) -->\n", re.MULTILINE)


@dataclass(frozen=True)
class PromptTemplate:
    """The parts of a prompt file by name."""

    parts: Mapping[str, jinja2.Template]
    path: Path

    def render(self, part: str, **values: Any) -> str:
        """Render a part with its values.

        Raises BadInput if it uses any other value, does what the sandbox does not allow, or gets
        longer than MAX_RENDERED_CHARACTERS.
        """
        pieces, length = [], 0
        try:
            for piece in self.parts[part].generate(values):
                pieces.append(piece)
                length += len(piece)
                if length > MAX_RENDERED_CHARACTERS:
                    raise SecurityError(f"more than {MAX_RENDERED_CHARACTERS:,} characters")
        except (jinja2.TemplateError, ArithmeticError, TypeError, ValueError) as error:
            raise BadInput(f"part {part}: {error}", where=str(self.path)) from error
        return "".join(pieces).strip()


class _TextEnvironment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("*", "**", "%"))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        raise SecurityError(f"the operator {operator} is not allowed in a prompt")

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        raise SecurityError("calls are not allowed in a prompt; use filters")


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
    environment = _TextEnvironment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # The texts are sent to a model, never shown as HTML.
        autoescape=False,
    )
    environment.globals.clear()
    for name in _REMOVED_FILTERS:
        del environment.filters[name]
    environment.filters["data"] = data_block
    environment.globals["data_rule"] = DATA_RULE
    try:
        parts = {name: environment.from_string(text) for name, text in texts.items()}
    except jinja2.TemplateSyntaxError as error:
        raise BadInput(str(error), where=str(path)) from error
    return PromptTemplate(parts, path)
