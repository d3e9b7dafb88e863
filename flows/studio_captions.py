"""Check the captions that people write in the studio, by the rules of the stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from mimix_core.domain.caption_grammar import BadCaption, parse_caption, resolve_aliases
from mimix_core.domain.character_names import alias_map
from mimix_core.domain.library import Style
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.caption_validation import CaptionRules, find_caption_problems
from mimix_core.stages.captions.token_count import load_token_counter


class CaptionChecker:
    """List the problems of a caption for an item: those for which its stage would reject it.

    ``meta``: casts of shows and episodes, as in the index of the studio. ``item``: a clip or a
    composite, as the page shows it.
    """

    def __init__(self, settings: CaptionSettings) -> None:
        self._settings = settings

    def __call__(self, meta: Mapping[str, Any], item: Mapping[str, Any], text: str) -> list[str]:
        """Return the problems in words; an empty list means that the caption can be used."""
        settings = self._settings
        is_composite = item["kind"] == "composite"
        cast = None if is_composite else meta["episode_casts"].get(item["episode"])
        cast = cast or meta["casts"].get(item["show"], {"roster": [], "aliases": {}})
        names = alias_map(cast["roster"], cast["aliases"])
        if is_composite:
            names[item["character"].casefold()] = item["character"]
        try:
            caption = resolve_aliases(parse_caption(text), names)
        except BadCaption as error:
            return [error.what]
        rules = CaptionRules(
            roster=tuple(dict.fromkeys(names.values())),
            style=Style(item["style"]),
            # A composite's caption describes what two captions describe.
            max_words=settings.max_words * (2 if is_composite else 1),
            max_tokens=settings.max_tokens,
            count_tokens=self._count_tokens,
            english=settings.language == "en",
            required_characters=(item["character"],) if is_composite else (),
        )
        return find_caption_problems(caption, rules)

    @cached_property
    def _count_tokens(self) -> Callable[[str], int] | None:
        tokenizer = self._settings.tokenizer
        return None if tokenizer is None else load_token_counter(tokenizer)
