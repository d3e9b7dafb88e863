"""Settings of videos that could give none are refused before anything is computed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mimix_core.settings import SampleSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shift": 0}, "greater than 0"),
        ({"shift": -3}, "greater than 0"),
        ({"width": 0}, "greater than 0"),
        ({"height": -16}, "greater than 0"),
        (
            {"adapters": [{"path": "a.safetensors"}, {"path": "./a.safetensors", "weight": 0.5}]},
            "adapters has a.safetensors twice: give it once, with the sum of both weights",
        ),
    ],
)
def test_settings_without_a_video_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SampleSettings.model_validate(values)


def test_one_adapter_may_have_a_weight_for_each_expert() -> None:
    experts = [{"path": "a", "expert": "high-noise"}, {"path": "a", "expert": "low-noise"}]
    settings = SampleSettings.model_validate({"adapters": experts})
    assert [adapter.expert for adapter in settings.adapters] == ["high-noise", "low-noise"]
