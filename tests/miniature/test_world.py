"""Hold the miniature world to what it promises: identities, reactions, masks and captions."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from mimix_core.domain.caption_grammar import parse_caption, render_caption
from miniature import captions, figures, renderer, scenes
from miniature.figures import CARTOON, CASTS, NAMED_FIGURES, REALISTIC, STYLES
from miniature.renderer import Video
from miniature.scenes import FRAMES, HEIGHT, TOGETHER, WIDTH, Scene

X, LIFT, TILT, SQUASH, FACING = (
    scenes.POSE.index(name) for name in ("x", "lift", "tilt", "squash", "facing")
)


@pytest.fixture(scope="module")
def pair() -> tuple[list[Scene], Video]:
    """A cartoon and a realistic scene; rendered once for all tests."""
    rng = random.Random(3)
    cast = [figures.draw_generic_figure(rng, style) for style in (CARTOON, REALISTIC)]
    drawn = [
        scenes.draw_scene(rng, [replace(f, style=style) for f in cast], style, together="push")
        for style in STYLES
    ]
    return drawn, renderer.render(scenes.to_tensors(drawn))


def test_a_show_has_three_characters_and_one_look_alike_pair_that_color_does_not_tell() -> None:
    for style, cast in CASTS.items():
        assert len(cast) >= 3
        assert {figure.style for figure in cast} == {style}
        close = [
            sum(a != b for a, b in zip(one.identity(), two.identity(), strict=True))
            for index, one in enumerate(cast)
            for two in cast[index + 1 :]
        ]
        assert sorted(close)[0] == 2
        assert sorted(close)[1] >= 3
        assert any(one.color == two.color for one in cast for two in cast if one is not two)
    assert len({figure.identity() for figure in NAMED_FIGURES}) == len(NAMED_FIGURES)


def test_generic_figures_are_never_a_named_one() -> None:
    rng = random.Random(0)
    drawn = [figures.draw_generic_figure(rng, CARTOON) for _ in range(5000)]
    assert not {f.identity() for f in drawn} & {f.identity() for f in NAMED_FIGURES}
    assert not {f.name for f in drawn} & {f.name for f in NAMED_FIGURES}
    assert len({f.identity() for f in drawn}) > 1000


def test_scenes_of_the_base_never_mix_styles() -> None:
    rng = random.Random(0)
    drawn = [scenes.draw_generic_scene(rng) for _ in range(500)]
    assert all({figure.style for figure in scene.cast} == {scene.style} for scene in drawn)
    assert {len(scene.cast) for scene in drawn} == {1, 2}
    assert {scene.style for scene in drawn} == set(STYLES)


@pytest.mark.parametrize("described", [True, False])
def test_captions_follow_the_grammar_of_mimix(described: bool) -> None:
    rng = random.Random(1)
    for _ in range(200):
        scene = scenes.draw_generic_scene(rng)
        text = captions.caption(scene, [described] * len(scene.cast))
        parsed = parse_caption(text)
        assert render_caption(parsed) == text
        assert parsed.character_names() == tuple(figure.name for figure in scene.cast)
        assert parsed.style == scene.style


def test_the_same_seed_draws_the_same_scenes() -> None:
    one, two = ([scenes.draw_generic_scene(random.Random(9)) for _ in range(3)] for _ in range(2))
    assert one == two
    first, second = scenes.to_tensors(one), scenes.to_tensors(two)
    assert all(
        torch.equal(a, b) for a, b in zip(vars(first).values(), vars(second).values(), strict=True)
    )


def poses(together: str) -> torch.Tensor:
    """Poses [scene, place, frame, value] of many scenes of figures that do not hop or waddle."""
    rng = random.Random(5)
    walks = figures.GAITS.index("walks")
    drawn = [
        scenes.draw_scene(
            rng,
            [replace(figures.draw_generic_figure(rng, CARTOON), gait=walks) for _ in range(2)],
            CARTOON,
            together=together,
        )
        for _ in range(20)
    ]
    return scenes.to_tensors(drawn).pose_BFTP


def test_who_is_pushed_stumbles_back_and_only_after_the_push() -> None:
    pose = poses("push")
    away = pose[:, 1, :, X] - pose[:, 0, :, X]
    moved = (pose[:, 1, :, X] - pose[:, 1, :1, X]).abs()
    assert (moved[:, :7] < 1).all()
    assert (moved[:, -1] > 15).all()
    assert (away[:, -1].abs() > away.abs().amin(1) + 10).all()
    assert (pose[:, 1, :, TILT].amax(1) > 0.5).all()


def test_who_is_jumped_over_ducks_and_the_jumper_lands_on_the_other_side() -> None:
    pose = poses("jump over")
    assert (pose[:, 1, :, SQUASH].amin(1) < 0.7).all()
    assert (pose[:, 0, :, LIFT].amax(1) > 20).all()
    side = (pose[:, 0, :, X] - pose[:, 1, :, X]).sign()
    assert (side[:, 0] == -side[:, -1]).all()


def test_a_ball_goes_from_one_hand_to_the_other_and_is_lifted() -> None:
    rng = random.Random(6)
    walks = figures.GAITS.index("walks")
    cast = [replace(figures.draw_generic_figure(rng, CARTOON), gait=walks) for _ in range(2)]
    tensors = scenes.to_tensors([scenes.draw_scene(rng, cast, CARTOON, together="hand over")])
    pose, ball = tensors.pose_BFTP[0], tensors.ball_BT3[0]
    reach = torch.tensor(
        [
            (scenes.HALF_WIDTHS[figure.form] + 0.24) * float(scale)
            for figure, scale in zip(cast, tensors.scale_BF[0], strict=True)
        ]
    )
    hands = pose[:, :, X] + pose[:, :, FACING] * reach[:, None]
    assert abs(float(ball[0, 0] - hands[0, 0])) < 0.1
    assert abs(float(ball[-1, 0] - hands[1, -1])) < 0.1
    assert float(ball[0, 1] - ball[-1, 1]) > 8
    assert set(TOGETHER) == {"approach", "push", "hand over", "jump over"}


def test_videos_have_the_size_and_range_of_the_world(pair: tuple[list[Scene], Video]) -> None:
    frames = pair[1].frames_BCTHW
    assert frames.shape == (2, 3, FRAMES, HEIGHT, WIDTH)
    assert 0 <= float(frames.min()) < float(frames.max()) <= 1


def test_masks_and_boxes_cover_the_figures(pair: tuple[list[Scene], Video]) -> None:
    video = pair[1]
    left, top, right, bottom = video.boxes().unbind(-1)
    # A figure is about 5 tokens of 8 pixels high, and wider than two.
    assert ((bottom - top).float().mean((0, 2)) > 25).all()
    assert ((right - left).float().mean((0, 2)) > 16).all()
    assert (video.masks_BFTHW.sum(1) <= 1 + 1e-4).all()
    x = torch.arange(WIDTH) + 0.5
    mass = video.masks_BFTHW.sum(-2)
    center = (mass * x).sum(-1) / mass.sum(-1)
    first, second = pair[0][0].cast
    assert first.name != second.name
    assert bool(((center > left) & (center < right)).all())


def test_contact_is_seen_when_one_pushes_the_other(pair: tuple[list[Scene], Video]) -> None:
    assert bool(pair[1].contact_B.all())


def test_the_styles_differ_as_drawing_and_film(pair: tuple[list[Scene], Video]) -> None:
    cartoon, realistic = pair[1].frames_BCTHW

    # Flat color: most neighbors of a cartoon are equal; grain and texture leave few in a film.
    def flat(video: torch.Tensor) -> float:
        return float(((video[..., 1:] - video[..., :-1]).abs().amax(0) < 1e-4).float().mean())

    assert flat(cartoon) > 0.6
    assert flat(realistic) < 0.1
    # A still cartoon background does not change; grain does.
    assert float((cartoon[:, 0, :8] - cartoon[:, 1, :8]).abs().amax()) == 0
    assert float((realistic[:, 0, :8] - realistic[:, 1, :8]).abs().mean()) > 0.005


def test_a_figure_keeps_its_style_before_a_background_of_the_other() -> None:
    rng = random.Random(8)
    figure = replace(NAMED_FIGURES[0], style=CARTOON)
    drawn = [scenes.draw_scene(rng, [figure], style) for style in STYLES]
    drawn[1] = replace(drawn[0], style=REALISTIC)
    video = renderer.render(scenes.to_tensors(drawn))
    inside = (video.masks_BFTHW[:, 0] > 0.99).all(0)
    difference = (video.frames_BCTHW[0] - video.frames_BCTHW[1]).abs().amax(0)
    # Only grain differs inside the figure.
    assert float(difference[inside].max()) < 0.03
    assert float(difference[~inside].mean()) > 0.05
