"""What `mimix init` writes can be read: by the same code that reads a user's own files."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mimix_core.domain.prompts import load_prompts
from mimix_core.errors import BadInput
from mimix_core.project.templates import (
    LIBRARY,
    build_settings_template,
    write_project_templates,
)
from mimix_core.settings import ClipSettings, Config


def test_settings_are_settings_also_with_their_comments_taken_away(tmp_path: Path) -> None:
    write_project_templates(tmp_path)
    written = (tmp_path / "mimix.yaml").read_text()
    Config.model_validate(yaml.safe_load(written))
    head, *lines = written.splitlines()
    whole = "\n".join([head, *(line.removeprefix("# ") for line in lines)])
    config = Config.model_validate(yaml.safe_load(whole))
    assert config.run.require_approval
    assert config.inbox == Path("inbox")
    # The commented thresholds are the defaults, each below its meaning.
    plain = Config.model_validate(yaml.safe_load(written))
    for section in ("scenes", "clips", "cutouts", "composites", "dataset"):
        assert getattr(config, section) == getattr(plain, section)
    described = ClipSettings.model_fields["min_sharpness"].description
    assert described is not None
    assert _comment_above(written, "min_sharpness") == described.split()
    assert "max_distance" in written, "also those of the locators"
    # `mimix captions import` writes this file.
    assert plain.captions.overrides is None
    assert config.captions.overrides == Path("captions-by-hand.jsonl")
    assert _comment_above(written, "overrides")[0] == "File"


def test_prompts_name_the_library_s_characters(tmp_path: Path) -> None:
    write_project_templates(tmp_path)
    shows = yaml.safe_load(LIBRARY)["shows"]
    roster = [character["name"] for show in shows for character in show["characters"]]
    (prompt,) = load_prompts(tmp_path / "prompts.yaml", roster)
    assert prompt.category == "inter-style"


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mimix.yaml").write_text(build_settings_template() + "# mine\n")
    with pytest.raises(BadInput, match=r"mimix\.yaml exists already"):
        write_project_templates(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mimix.yaml"]


def _comment_above(text: str, key: str) -> list[str]:
    """Return the words of the comment lines directly above a commented key."""
    lines = text.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith(f"#   {key}:"))
    start = at
    while lines[start - 1].startswith("#   # "):
        start -= 1
    return " ".join(line.removeprefix("#   # ") for line in lines[start:at]).split()
