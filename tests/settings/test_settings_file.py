"""A settings file: its paths, the file that it extends, and errors that name file, line and key."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import yaml

from mimix_core.errors import BadInput
from mimix_core.project.templates import write_project_templates
from mimix_core.settings import Config, load_config

BASE = {
    "library": "library.yaml",
    "workspace": "results",
    "clips": {"width": 160, "height": 96},
    "samples": {"prompts": "prompts.yaml", "shift": 3.0, "adapters": [{"path": "a.safetensors"}]},
}


def load(folder: Path, changes: object, base: object = BASE) -> Config:
    (folder / "library.yaml").write_text("shows: []\n")
    (folder / "mimix.yaml").write_text(yaml.safe_dump(base))
    (folder / "other.yaml").write_text(yaml.safe_dump(changes, sort_keys=False))
    return load_config(folder / "other.yaml")


def test_sections_are_merged_and_values_replaced(tmp_path: Path) -> None:
    samples = {"shift": 5.0, "adapters": [{"path": "b.safetensors", "weight": 0.5}]}
    found = load(tmp_path, {"extends": "mimix.yaml", "samples": samples, "scores": {"threads": 1}})
    base = load_config(tmp_path / "mimix.yaml")
    assert [adapter.path for adapter in found.samples.adapters] == [tmp_path / "b.safetensors"]
    expected = base.samples.model_copy(
        update={"shift": 5.0, "adapters": found.samples.adapters},
    )
    assert found == base.model_copy(update={"samples": expected, "scores": found.scores})
    assert found.scores.threads == 1
    assert base.samples.shift == 3.0


@pytest.mark.parametrize(
    ("changes", "base", "said"),
    [
        (
            {"extends": "mimix.yaml", "samples": {"solver": "euler", "step_cache": 0.1}},
            BASE,
            r"other\.yaml, line 2, key samples: step_cache reuses",
        ),
        (
            {"extends": "mimix.yaml", "samples": {"shift": 5}},
            {**BASE, "clips": {"widht": 160}},
            r"mimix\.yaml, line 2, key clips\.widht: unknown key",
        ),
        ({"extends": "../mimix.yaml"}, BASE, r"other\.yaml, line 1, key extends: '\.\./mimix"),
        ({"extends": 3}, BASE, r"other\.yaml, line 1, key extends: 3 does not name"),
        (
            {"extends": "none.yaml"},
            BASE,
            r"other\.yaml, line 1, key extends: the file .*none\.yaml does not exist",
        ),
        ({"extends": "mimix.yaml"}, {"extends": "third.yaml"}, "extends another file itself"),
        ({"extends": "other.yaml"}, BASE, "extends another file itself"),
    ],
)
def test_what_is_wrong_is_named_where_it_is(
    tmp_path: Path, changes: object, base: object, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        load(tmp_path, changes, base)


def test_the_template_of_few_steps_changes_four_settings_alone(tmp_path: Path) -> None:
    write_project_templates(tmp_path)
    base, few = (load_config(tmp_path / name) for name in ("mimix.yaml", "few-steps.yaml"))
    assert few.model_copy(update={"samples": base.samples}) == base
    samples, other = base.samples, few.samples
    changed = {
        name
        for name in type(samples).model_fields
        if getattr(samples, name) != getattr(other, name)
    }
    assert changed == {"adapters", "solver", "num_inference_steps", "guidance_scale"}


def test_settings_name_file_line_and_key(tmp_path: Path) -> None:
    (tmp_path / "library.yaml").write_text("shows: []\n")
    path = tmp_path / "mimix.yaml"
    path.write_text(
        textwrap.dedent(
            """\
            library: library.yaml
            lora:
              rank: 0
              rnak: 8
            """
        )
    )
    with pytest.raises(BadInput) as caught:
        load_config(path)
    message = str(caught.value)
    assert "line 3, key lora.rank" in message
    assert "line 4, key lora.rnak: unknown key" in message


def test_settings_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "library.yaml").write_text("shows: []\n")
    path = tmp_path / "mimix.yaml"
    path.write_text("library: library.yaml\nworkspace: work\nbackbone: {path: wan}\n")
    config = load_config(path)
    assert config.workspace == tmp_path / "work"
    assert config.backbone.path == tmp_path / "wan"
    path.write_text("library: elsewhere.yaml\n")
    with pytest.raises(BadInput, match="line 1, key library"):
        load_config(path)
