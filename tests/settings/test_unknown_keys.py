"""Unknown keys and wrong values of a settings file: the message says what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.errors import BadInput
from mimix_core.settings import load_config
from mimix_core.settings.config import Config
from mimix_core.settings.unknown_keys import _OTHER_TRAINERS, _all_keys


def refuse(folder: Path, text: str) -> str:
    (folder / "library.yaml").write_text("shows: []\n")
    path = folder / "mimix.yaml"
    path.write_text(f"library: library.yaml\n{text}\n")
    with pytest.raises(BadInput) as raised:
        load_config(path)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "lora: {learning_rte: 1.0}",
            "key lora.learning_rte: unknown key; perhaps lora.learning_rate is meant",
        ),
        ("cutouts: {face: {max_gaps: 3}}", "perhaps cutouts.face.max_gap is meant"),
        (
            "samples: {adapters: [{path: a.safetensors, wieght: 1}]}",
            "perhaps samples.adapters.0.weight is meant",
        ),
        ("lora: {network_dim: 16}", "perhaps lora.rank is meant"),
        ("max_train_epochs: 16", "perhaps lora.epochs is meant"),
        ("rank: 16", "perhaps lora.rank is meant"),
        ("latents: {num_inference_steps: 16}", "perhaps samples.num_inference_steps is meant"),
        ("lora: {xyzzy: 16}", "key lora.xyzzy: unknown key. "),
    ],
)
def test_an_unknown_key_is_answered_with_the_one_that_was_meant(
    tmp_path: Path, text: str, said: str
) -> None:
    assert said in refuse(tmp_path, text)


def test_the_keys_that_stand_for_those_of_other_trainers_exist() -> None:
    assert set(_OTHER_TRAINERS.values()) <= set(_all_keys(Config))


def test_a_value_that_is_neither_a_name_nor_a_module_is_one_problem(tmp_path: Path) -> None:
    message = refuse(tmp_path, "backbone: {name: wan2.1-14b}")
    assert "line 2, key backbone.name: Input should be 'wan2.1-t2v-14b'" in message
    assert "or the dotted name of a module outside MiMix. Correct" in message
    assert message.count("backbone.name") == 1


def test_a_text_instead_of_keys_is_named_in_plain_words(tmp_path: Path) -> None:
    message = refuse(tmp_path, "samples: {adapters: [a.safetensors]}")
    assert "key samples.adapters.0: must have keys with values, as in {key: value}" in message
