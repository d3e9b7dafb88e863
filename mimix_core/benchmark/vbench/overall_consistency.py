"""``overall_consistency``: does the video show its prompt? ViCLIP-L/14 on eight frames.

ViCLIP reads 32 tokens and truncates a longer prompt. ``shorten_prompt`` condenses such a prompt to
that length, for the corrected variant of VBench's score.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from mimix_core.benchmark.metric_errors import Unmeasurable
from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.frame_features import middle_frame_indices
from mimix_core.benchmark.vbench.image_transforms import clip_transform
from mimix_core.benchmark.vbench.networks import viclip
from mimix_core.benchmark.vbench.video_reader import DecodedVideo

_TAG = re.compile(r"\[(?:character|scene-style)\s*:\s*([^\]]*)\]\s*,?", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+")
_CLAUSE = re.compile(r"(?<=,)\s+")


def load_model(weights_dir: Path, device: torch.device) -> viclip.ViClip:
    """Load ViCLIP. Raises BadInput for weights of another network."""
    return viclip.load_viclip(
        weights_dir / vbench_weights.VICLIP, weights_dir / vbench_weights.VOCABULARY, device
    )


def score_video(model: viclip.ViClip, video: DecodedVideo) -> float:
    """Return the cosine of video and prompt, truncated to 32 tokens.

    Raises Unmeasurable without a prompt.
    """
    return _similarity(model, video, video.prompt)


def score_video_short_prompt(model: viclip.ViClip, video: DecodedVideo) -> float:
    """Return the cosine of video and prompt, condensed to 32 tokens (``shorten_prompt``)."""
    return _similarity(model, video, shorten_prompt(video.prompt, model))


def shorten_prompt(prompt: str, model: viclip.ViClip) -> str:
    """Condense a prompt to ViCLIP's context length; one that fits is returned unchanged.

    The captions' tags are replaced by their text. Then clauses are added as long as they fit: first
    the first clause of each sentence (every character's main action; an overlong one is truncated),
    then each second clause, and so on. Clauses stay in the order of the text.
    """
    max_tokens = model.text_length - 2
    encode = model.tokenizer.encode
    if len(encode(prompt)) <= max_tokens:
        return prompt
    plain = _TAG.sub(r"\1", prompt).strip()
    clauses = [
        (depth, position, clause)
        for position, sentence in enumerate(_SENTENCE.split(plain))
        for depth, clause in enumerate(_CLAUSE.split(sentence))
    ]
    selected: list[tuple[int, int, str]] = []
    for depth, position, clause in sorted(clauses):
        words = clause.split()
        while words:
            candidate = (depth, position, " ".join(words))
            if len(encode(_join_clauses([*selected, candidate]))) <= max_tokens:
                selected.append(candidate)
                break
            words = words[:-1] if depth == 0 else []
    return _join_clauses(selected)


def _join_clauses(clauses: list[tuple[int, int, str]]) -> str:
    return " ".join(text for _, _, text in sorted(clauses, key=lambda c: (c[1], c[0])))


def _similarity(model: viclip.ViClip, video: DecodedVideo, prompt: str) -> float:
    if not prompt.strip():
        raise Unmeasurable("the video has no prompt")
    device = model.video.proj.device
    indices = middle_frame_indices(viclip.NUM_FRAMES, len(video.frames_THWC))
    pixels_TCHW = torch.from_numpy(video.frames_THWC[indices]).to(device).permute(0, 3, 1, 2)
    return model.similarity(clip_transform(pixels_TCHW, round_to_uint8=True), prompt)
