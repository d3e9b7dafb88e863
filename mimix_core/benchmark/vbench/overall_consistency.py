"""``overall_consistency``: does the video show its prompt? ViCLIP-L/14 on eight frames.

ViCLIP reads 32 tokens: the rest of a longer prompt is cut off, wherever that is. ``shorten`` makes
of such a prompt one that fits, for the corrected variant beside VBench's own value.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.frame_features import middles
from mimix_core.benchmark.vbench.image_transforms import clip_frames
from mimix_core.benchmark.vbench.networks import viclip
from mimix_core.benchmark.vbench.video_reader import Unmeasurable, Video

DIMENSION = "overall_consistency"
FILES = (vbench_weights.VICLIP, vbench_weights.VOCABULARY)

_TAG = re.compile(r"\[(?:character|scene-style)\s*:\s*([^\]]*)\]\s*,?", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+")
_CLAUSE = re.compile(r"(?<=,)\s+")


def load(weights_dir: Path, device: torch.device) -> viclip.ViClip:
    """ViCLIP. Raises BadInput for weights of something else."""
    return viclip.load(
        weights_dir / vbench_weights.VICLIP, weights_dir / vbench_weights.VOCABULARY, device
    )


def score(model: viclip.ViClip, video: Video) -> float:
    """Cosine of video and prompt, cut off after 32 tokens. Raises Unmeasurable without a prompt."""
    return _similarity(model, video, video.prompt)


def score_short(model: viclip.ViClip, video: Video) -> float:
    """The same with a prompt that fits (``shorten``)."""
    return _similarity(model, video, shorten(video.prompt, model))


def shorten(prompt: str, model: viclip.ViClip) -> str:
    """A prompt that ViCLIP reads to its end; one that fits already is kept.

    The captions' tags become their words. Then clauses are taken as long as they fit: first each
    sentence's first (every character's main action; of one that is too long, its first words), then
    each one's second, and so on. They stay in the order of the text.
    """
    room = model.text_length - 2
    encode = model.tokenizer.encode
    if len(encode(prompt)) <= room:
        return prompt
    plain = _TAG.sub(r"\1", prompt).strip()
    clauses = [
        (depth, place, clause)
        for place, sentence in enumerate(_SENTENCE.split(plain))
        for depth, clause in enumerate(_CLAUSE.split(sentence))
    ]
    taken: list[tuple[int, int, str]] = []
    for depth, place, clause in sorted(clauses):
        words = clause.split()
        while words:
            candidate = (depth, place, " ".join(words))
            if len(encode(_joined([*taken, candidate]))) <= room:
                taken.append(candidate)
                break
            words = words[:-1] if depth == 0 else []
    return _joined(taken)


def _joined(clauses: list[tuple[int, int, str]]) -> str:
    return " ".join(text for _, _, text in sorted(clauses, key=lambda c: (c[1], c[0])))


def _similarity(model: viclip.ViClip, video: Video, prompt: str) -> float:
    if not prompt.strip():
        raise Unmeasurable("the video has no prompt")
    device = model.video.proj.device
    chosen = middles(viclip.FRAMES, len(video.frames_THWC))
    pixels_TCHW = torch.from_numpy(video.frames_THWC[chosen]).to(device).permute(0, 3, 1, 2)
    return model.similarity(clip_frames(pixels_TCHW, as_bytes=True), prompt)
