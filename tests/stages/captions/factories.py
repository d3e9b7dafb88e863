"""A small show with real clips, for tests of captioning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from mimix_core import tables
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import file_ref
from mimix_core.stages.captions.caption_inputs import CaptionInputs, CharacterProfile, ShowProfile
from mimix_core.stages.captions.prompt_template import DEFAULT_PROMPT_PATH
from mimix_core.tables import Row
from tests import factories
from tests.factories import table_ref, video

COLORS = {"Tom": (90, 90, 200), "Jerry": (160, 110, 60)}


def clip(name: str, *, start: int = 0, **values: Any) -> Row:
    """Return an ok clip with every column of the table."""
    more: Row = {
        "start_num": start,
        "start_den": 1000,
        "motion": 0.01,
        "sharpness": 10.0,
        "black_share": 0.0,
        "frozen_share": 0.0,
        "repeat_share": 0.0,
        "audio_file": "",
        "audio_sha256": "",
        "lost_audio_ms": 0,
        "text_remains": "",
        "fingerprint": b"",
        "inset_fingerprint": b"",
    }
    return factories.clip(name, start=start, **{**more, **values})


def transcript(name: str, text: str = "", backend: str = "subtitles/sidecar") -> Row:
    lines = [{"start_ms": 500, "end_ms": 1500, "text": text}] if text else []
    return tables.ok(clip_id=name, backend=backend, language="", text=text, lines=lines, words=[])


def frames(seed: int = 0) -> np.ndarray:
    """Return 81 frames of 64 x 48; frame n has brightness 2n."""
    images = np.zeros((81, 48, 64, 3), np.uint8)
    images[:] = (np.arange(81) * 2)[:, None, None, None]
    images[:, :8, :8] = np.random.default_rng(seed).integers(0, 255, 3)
    return images


def show(folder: Path) -> ShowProfile:
    """Return Tom and Jerry, each with a description and a reference image of one color."""
    folder.mkdir(parents=True, exist_ok=True)
    cast = []
    for name, color in COLORS.items():
        path = folder / f"{name}.png"
        Image.new("RGB", (40, 30), color).save(path)
        cast.append(
            CharacterProfile(
                name=name, description=f"The looks of {name}", references=(file_ref(path),)
            )
        )
    cast[0] = cast[0].model_copy(update={"aliases": ("the cat",)})
    return ShowProfile(
        id="show", title="Tom and Jerry", style=Style.CARTOON, characters=tuple(cast)
    )


def inputs(
    folder: Path, clips: list[Row], *, transcripts: list[Row] | None = None, **more: Any
) -> CaptionInputs:
    """Return inputs of backend vlm for these clips, and write the files that they name."""
    for n, one in enumerate(clips):
        if one["status"] == "ok" and not (folder / "clips" / one["file"]).exists():
            one["sha256"] = video(folder / "clips" / one["file"], frames(n))
    cast = show(folder / "show")
    values: dict[str, Any] = {
        "unit": "pilot",
        "style": cast.style,
        "roster": cast.roster(),
        "aliases": {"the cat": "Tom"},
        "clips": table_ref(folder / "clips", tables.CLIPS, clips),
        "transcripts": table_ref(folder / "transcripts", tables.TRANSCRIPTS, transcripts or []),
        "show": cast,
        "prompt": file_ref(DEFAULT_PROMPT_PATH),
        "response_cache": folder / "answers",
    }
    return CaptionInputs.model_validate({**values, **more})


def word_tokenizer(folder: Path) -> Path:
    """Write a tokenizer.json that counts words and adds an end token, and truncates to 3."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator(
        ["a b c"], trainers.WordLevelTrainer(special_tokens=["<unk>", "</s>"])
    )
    end = ("</s>", tokenizer.token_to_id("</s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[end])
    tokenizer.enable_truncation(3)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
