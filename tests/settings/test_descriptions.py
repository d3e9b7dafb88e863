"""Every setting has a description that is a sentence: it is all that Prefect's form shows."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from mimix_core.settings import Config
from tests.settings.test_renamed_settings import models_in


def settings_models(model: type[BaseModel] = Config) -> set[type[BaseModel]]:
    sections = {
        section for field in model.model_fields.values() for section in models_in(field.annotation)
    }
    return {model}.union(*(settings_models(section) for section in sections))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (model, name)
        for model in sorted(settings_models(), key=lambda model: model.__name__)
        for name in model.model_fields
    ],
)
def test_a_description_is_a_sentence(model: type[BaseModel], name: str) -> None:
    description = model.model_fields[name].description
    assert description is not None
    assert description[0].isupper()
    assert description.endswith(".")
    assert len(description.split()) >= 3
    assert "  " not in description


@pytest.mark.parametrize("model", sorted(settings_models(), key=lambda model: model.__name__))
def test_a_section_has_a_description(model: type[BaseModel]) -> None:
    assert model.__doc__
    assert model.__doc__.strip().split("\n")[0].endswith(".")
