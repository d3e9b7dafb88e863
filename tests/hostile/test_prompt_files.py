"""A prompt file of a stranger is text: it runs no code, reads no file and fills no memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.errors import BadInput
from mimix_core.stages.captions.prompt_template import (
    DEFAULT_PROMPT_PATH,
    PARTS,
    load_prompt_template,
)
from tests.paths import ROOT

RUNS_CODE = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ name.__class__.__base__.__subclasses__() }}",
    "{{ lipsum.__globals__['os'].system('touch PWNED') }}",
    "{{ cycler.__init__.__globals__.os.popen('touch PWNED').read() }}",
    "{{ self.__init__.__globals__.__builtins__.open('PWNED', 'w') }}",
    "{{ joiner.__init__.__globals__['__builtins__']['open']('PWNED', 'w') }}",
    "{{ ''|attr('__class__')|attr('__mro__') }}",
    "{{ [name]|map(attribute='__class__')|list }}",
    "{{ '{0.__class__.__mro__}'.format(name) }}",
    "{{ '%s' % name.__class__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
]
FILLS_MEMORY = [
    "{{ 'x' * 10000000000 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ name|center(1000000000) }}",
    "{{ '{:1000000000}'.format(name) }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
]


def write_prompt(path: Path, text: str) -> Path:
    path.write_text("".join(f"<!-- part: {part} -->\n{text}\n" for part in PARTS))
    return path


@pytest.mark.parametrize("text", [*RUNS_CODE, *FILLS_MEMORY])
def test_a_template_is_text_and_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"prompt\.md"):
        load_prompt_template(write_prompt(tmp_path / "prompt.md", text)).render("show", name="Tom")
    assert [path.name for path in tmp_path.iterdir()] == ["prompt.md"]


def test_a_loop_over_its_values_does_not_grow_without_end(tmp_path: Path) -> None:
    ends = "{% endfor %}" * 3
    text = "{% for a in x %}{% for b in x %}{% for c in x %}{{ a }}" + ends
    template = load_prompt_template(write_prompt(tmp_path / "prompt.md", text))
    with pytest.raises(BadInput, match="1,000,000 characters"):
        template.render("show", x=["y" * 1000] * 100)


def test_what_prompts_are_written_with_works(tmp_path: Path) -> None:
    text = (
        "{% set names = x | sort | join(', ') %}{% if names %}{{ names | upper }}{% endif %}"
        "{% for n in x %}{{ loop.index }}{{ n | default('-') }}{{ '.' if loop.last }}{% endfor %}"
        "{{ x | length + 1 }} {{ x[0] ~ '!' }}"
    )
    template = load_prompt_template(write_prompt(tmp_path / "prompt.md", text))
    assert template.render("show", x=["b", "a"]) == "A, B1b2a.3 b!"


@pytest.mark.parametrize("path", sorted(DEFAULT_PROMPT_PATH.parent.glob("*.md")), ids=str)
def test_every_prompt_of_the_repository_loads(path: Path) -> None:
    assert path.is_relative_to(ROOT)
    load_prompt_template(path)
