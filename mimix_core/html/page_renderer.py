"""Render self-contained HTML pages: templates of a package, with style and script inlined."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mimix_core.engine.text_escaping import printable_text

SHARED_STYLE = ("mimix_core.html", "page.css")
"""The style sheet that all pages share."""


def render_page(
    package: str,
    template: str,
    values: Mapping[str, Any],
    *,
    styles: Sequence[tuple[str, str]],
    script: str,
) -> str:
    """Render a template of a package with its style sheets and its script inlined.

    ``package`` has the folders ``templates`` and ``static``. ``styles``: (package, file) of each
    style sheet, in order; ``script``: file of the package. Besides ``values``, the template gets
    ``style``, ``script`` and ``script_digest``, for a Content-Security-Policy that allows the
    page's own script only. Text is escaped, its control characters are shown as escapes, and an
    undefined variable is an error.
    """
    script_text = _read_static(package, script)
    digest = base64.b64encode(hashlib.sha256(script_text.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_show_control_characters,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        **values,
        style=Markup("".join(_read_static(*style) for style in styles)),
        script=Markup(script_text),
        script_digest=digest,
    )


def _show_control_characters(value: Any) -> Any:
    """Replace control characters of a text by their escapes: some reorder the text after them."""
    return printable_text(value) if type(value) is str else value


def _read_static(package: str, name: str) -> str:
    return (resources.files(package) / "static" / name).read_text(encoding="utf-8")
