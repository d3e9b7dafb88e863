"""A console that shows control characters of names and messages instead of sending them."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from mimix_core.engine.text_escaping import printable_text


class SafeConsole(Console):
    r"""Rich console whose text cannot control the terminal.

    File names, answers of models and messages of decoders may contain escape sequences that move
    the cursor, set the window's title or write to the clipboard. They are printed as ``\x1b``;
    Rich's own styles and cursor movements are not part of the text and work as before.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render to segments without control characters."""
        for segment in super().render(renderable, options):
            if segment.control is None:
                yield Segment(printable_text(segment.text), segment.style)
            else:
                yield segment
