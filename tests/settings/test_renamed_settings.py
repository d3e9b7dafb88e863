"""Old names in a settings file are reported together, each with its line and its new name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from mimix_core.errors import BadInput
from mimix_core.settings import Config, load_config
from mimix_core.settings.renamed_settings import RENAMED_KEYS, RENAMED_VALUES


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def dotted_keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    keys = set()
    for name, field in model.model_fields.items():
        keys.add(f"{prefix}{name}")
        for section in models_in(field.annotation):
            keys |= dotted_keys(section, f"{prefix}{name}.")
    return keys


def nested(key: str, value: object) -> dict[str, Any]:
    head, _, rest = key.partition(".")
    return {head: nested(rest, value) if rest else value}


def message_for(tmp_path: Path, document: dict[str, Any]) -> str:
    path = tmp_path / "mimix.yaml"
    path.write_text(yaml.safe_dump({"library": "library.yaml", **document}, sort_keys=False))
    with pytest.raises(BadInput) as raised:
        load_config(path)
    return str(raised.value)


@pytest.mark.parametrize(("old", "new"), RENAMED_KEYS.items())
def test_an_old_key_is_reported_with_the_new_one(tmp_path: Path, old: str, new: str) -> None:
    message = message_for(tmp_path, nested(old, 1))
    line = 2 + old.count(".")
    assert f"mimix.yaml, line {line}, key {old}: renamed to {new}" in message


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [(key, old, new) for key, values in RENAMED_VALUES.items() for old, new in values.items()],
)
@pytest.mark.parametrize("as_list", [False, True])
def test_an_old_value_is_reported_with_the_new_one(
    tmp_path: Path, key: str, old: str, new: str, as_list: bool
) -> None:
    message = message_for(tmp_path, nested(key, [old] if as_list else old))
    assert f"mimix.yaml, line 3, key {key}: the value {old} is renamed to {new}" in message


def test_all_old_names_are_reported_in_one_error(tmp_path: Path) -> None:
    message = message_for(
        tmp_path,
        {
            "run": {"workers": 2},
            "lora": {"weighting": "bell", "rank": 4, "batch": 2},
            "cutouts": {"reference": {"every": 4}},
        },
    )
    assert message == (
        f"{tmp_path}/mimix.yaml, line 3, key run.workers: renamed to run.max_workers; "
        f"{tmp_path}/mimix.yaml, line 5, key lora.weighting: renamed to lora.loss_weighting, "
        "and the value bell is renamed to gaussian; "
        f"{tmp_path}/mimix.yaml, line 7, key lora.batch: renamed to lora.global_batch_size; "
        f"{tmp_path}/mimix.yaml, line 9, key cutouts.reference: renamed to cutouts.face; "
        f"{tmp_path}/mimix.yaml, line 10, key cutouts.reference.every: renamed to "
        "cutouts.face.frame_stride. Use the new names."
    )


def test_the_table_leads_from_unknown_keys_to_known_ones() -> None:
    known = dotted_keys(Config)
    assert known.issuperset(RENAMED_KEYS.values())
    assert known.isdisjoint(RENAMED_KEYS)


@pytest.mark.parametrize(("key", "values"), RENAMED_VALUES.items())
def test_new_values_are_valid_and_old_ones_are_not(key: str, values: dict[str, str]) -> None:
    section, name = key.split(".")
    model = models_in(Config.model_fields[section].annotation)[0]
    allowed = literals(model.model_fields[name].annotation)
    assert allowed.issuperset(values.values())
    assert allowed.isdisjoint(values)


def literals(annotation: Any) -> set[object]:
    arguments = get_args(annotation)
    nested_values = [literals(argument) for argument in arguments if not isinstance(argument, str)]
    return {argument for argument in arguments if isinstance(argument, str)}.union(*nested_values)
