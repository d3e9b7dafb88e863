"""The study: what is asked for, what its arms differ in, and how shares are estimated."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from mimix_core.diagnostics.preflight import check_before_run
from mimix_core.domain.prompts import load_prompts
from mimix_core.media.encode import ClipWriter
from mimix_core.settings import LoraSettings, load_config
from mimix_core.training import validation_samples
from mimix_core.training.throughput import count_sample_flops
from mimix_core.training.worker_messages import TrainingSample
from mimix_core.wan import lora_export, model_registry, vae
from mimix_core.wan.generation import sampling
from mimix_core.wan.tensor_shards import TensorRef
from mimix_core.wan.token_routing import middle_blocks
from miniature import (
    backbone,
    backbone_interface,
    captions,
    crossovers,
    episodes,
    judge_training,
    miniature_wan,
    renderer,
    scenes,
    unpack_weights,
)
from miniature.figures import CASTS, NAMED_FIGURES
from miniature.sizes import TINY, Sizes
from miniature.study import run as study_run
from miniature.study import scoring, statistics
from miniature.study.arms import (
    ADDED,
    ARMS,
    DISTILLED,
    Place,
    Training,
    all_again,
    write_settings,
)
from miniature.study.prompts import HELD_OUT_PAIRS, StudyPrompt, fewer_prompts, study_prompts
from miniature.training_run import Run
from miniature.unpack_weights import WEIGHTS


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "project"
    episodes.write_project(folder, episodes=1, shots=2)
    for kind in crossovers.KINDS:  # The films themselves are not needed here.
        (folder / f"library-{kind}.yaml").write_text((folder / "library.yaml").read_text())
    return folder


def test_prompts_ask_for_every_pair_alike() -> None:
    prompts = study_prompts()
    assert prompts == study_prompts()
    assert len({prompt.id for prompt in prompts}) == len(prompts)
    assert Counter(p.kind for p in prompts) == {"cross-style": 128, "same-show": 48, "single": 16}
    cross = [prompt for prompt in prompts if prompt.kind == "cross-style"]
    pairs = Counter(frozenset(f.name for f in prompt.scene.cast) for prompt in cross)
    assert len(pairs) == 16
    assert set(pairs.values()) == {8}
    for held_out in (True, False):
        some = [prompt for prompt in cross if prompt.held_out is held_out]
        assert Counter(p.scene.style for p in some) == {"cartoon": 32, "realistic": 32}
        assert Counter(p.scene.together is None for p in some) == {True: 32, False: 32}
    for figure in NAMED_FIGURES:
        assert sum(figure.name in pair for pair in HELD_OUT_PAIRS) == 2
    first = next(p for p in cross if p.scene.together)
    assert first.as_prompt().render() == captions.caption(first.scene, [False, False])


def test_arms_are_settings_that_differ_in_what_they_say(project: Path, tmp_path: Path) -> None:
    (project / DISTILLED).touch()
    files = write_settings(
        Place(project), tmp_path / "model", ARMS, (0, 1), Training(), study_prompts()
    )
    assert len(files) == 2 * len(ARMS)
    written = {
        (arm.name, seed): all_again(files[arm.name, seed])
        if arm.added_to
        else files[arm.name, seed]
        for arm in ARMS
        for seed in (0, 1)
    }
    settings = {key: yaml.safe_load(path.read_text()) for key, path in written.items()}
    for arm in ARMS:
        load_config(written[arm.name, 0])
    roster = [figure.name for cast in CASTS.values() for figure in cast]
    assert len(load_prompts(project / "arms" / "prompts.yaml", roster)) == 192
    zero, twenty = settings["composites-0", 0], settings["composites-20", 0]
    assert _differences(zero, twenty) == {"dataset.ratio"}
    assert _differences(zero, settings["composites-0", 1]) == {"lora.seed", "samples.seed"}
    ten = settings["composites-10", 0]
    changed = {"embeddings.variant", "samples.variant"}
    assert _differences(ten, settings["no-tags", 0]) == changed
    control = _differences(ten, settings["same-style-composites", 0])
    assert control == {"composites.same_style_share"}
    joint = settings["joint-renders", 0]
    assert _differences(zero, joint) == set()
    assert joint["library"].endswith("library-joint-renders.yaml")
    assert _differences(ten, settings["own-segmenter", 0]) == {"cutouts.backend"}
    region, start = settings["region-10", 0], settings["cutout-start-50", 0]
    assert _differences(region, ten | {"lora": ten["lora"] | {"region_weight": 0.0}}) == {
        "lora.region_weight"
    }
    plain = {"start": "noise", "start_strength": 0.0}
    assert _differences(start, ten | {"samples": ten["samples"] | plain}) == {
        "samples.start",
        "samples.start_strength",
    }
    few, distilled = settings["few-steps", 0], settings["few-steps-distilled", 0]
    usual = ten | {"samples": ten["samples"] | {"solver": "unipc"}}
    assert _differences(few, usual) == {
        "samples.num_inference_steps",
        "samples.guidance_scale",
        "samples.solver",
    }
    assert _differences(distilled, few | {"samples": few["samples"] | {"adapters": []}}) == {
        "samples.adapters"
    }
    seven = settings["seven-of-eight", 0]
    everyone = ten | {"dataset": ten["dataset"] | {"excluded_characters": []}}
    assert _differences(seven, everyone) == {"dataset.excluded_characters"}
    assert settings["eighth-added", 0] == ten, "training all again"
    assert not files["eighth-added", 0].exists(), "written after the arm that it starts from"
    routed, longer = settings["routed-50", 0], settings["routed-50-longer", 0]
    lora = ten["lora"] | {"routed_tokens": 0.0, "validation_share": 0.03}
    assert _differences(routed, ten | {"lora": lora}) == {"lora.routed_tokens"}
    assert _differences(longer, routed | {"lora": lora | routed["lora"]}) == {
        "lora.epochs",
        "lora.validation_interval",
        "lora.validation_share",
    }
    assert_lengths_suit_the_tokens(routed["lora"], longer["lora"])
    shorter = _differences(ten, settings["checkpoint-5", 0])
    assert shorter == {"lora.epochs", "samples.prompts"}
    assert len(load_prompts(project / "arms" / "prompts-fewer.yaml", roster)) == 48


def assert_lengths_suit_the_tokens(routed: dict[str, Any], longer: dict[str, Any]) -> None:
    """The longer arm has the FLOPs of all tokens, and both validate the same samples as often."""
    sizes = Sizes()
    clip = (sizes.channels, 1 + (scenes.FRAMES - 1) // 4, scenes.HEIGHT // 8, scenes.WIDTH // 8)
    full, fewer = (
        count_sample_flops(
            sizes.transformer_config(),
            clip,
            rank=32,
            targets=miniature_wan.BACKBONE.lora_targets,
            routed=share,
        )
        for share in (0.0, routed["routed_tokens"])
    )
    assert len(middle_blocks(sizes.layers)) == 5
    assert fewer / full == pytest.approx(0.664, abs=0.001)
    assert 0.98 < longer["epochs"] * fewer / (routed["epochs"] * full) <= 1
    nowhere = TensorRef(file=Path("none"), key="", shape=clip)
    held_out = [
        TrainingSample(
            sample_id=f"s{number}",
            show="show",
            style="cartoon",
            characters=(),
            latents=nowhere,
            text=nowhere,
        )
        for number in range(90)
    ]
    for train_samples in (1900, 1973, 2000):
        once, again = (
            validation_samples.select_validation_samples(
                held_out, train_samples, LoraSettings(**asked)
            )
            for asked in (routed, longer)
        )
        assert once == again
        assert len(once) > 30


def test_fewer_prompts_are_of_all_kinds_and_variations() -> None:
    some = fewer_prompts(study_prompts(), 4)
    assert Counter(p.kind for p in some) == {"cross-style": 32, "same-show": 12, "single": 4}
    cross = [prompt for prompt in some if prompt.kind == "cross-style"]
    assert len({frozenset(f.name for f in p.scene.cast) for p in cross}) == 16
    for style in ("cartoon", "realistic"):
        ours = [p for p in cross if p.scene.style == style]
        assert Counter(p.scene.together is None for p in ours) == {True: 8, False: 8}
        assert Counter(p.held_out for p in ours) == {True: 8, False: 8}
    assert fewer_prompts(study_prompts(), 1) == list(study_prompts())


def _differences(one: dict[str, Any], two: dict[str, Any]) -> set[str]:
    return {
        f"{name}.{key}"
        for name, section in one.items()
        if isinstance(section, dict)
        for key in section
        if section[key] != two[name][key]
    }


def test_the_backbone_passes_the_checks_before_a_run(project: Path, tmp_path: Path) -> None:
    unpack_weights.unpack(WEIGHTS, tmp_path / "model")
    files = write_settings(
        Place(project), tmp_path / "model", ARMS[:1], (0,), Training(), study_prompts()
    )
    check_before_run(load_config(files["composites-0", 0]), "generate")
    registered = model_registry.get_backbone("miniature.miniature_wan")
    assert registered.size_error(scenes.FRAMES, scenes.WIDTH, scenes.HEIGHT) is None
    interface = model_registry.load_interface(registered)
    tokenizer = interface.load_tokenizer(tmp_path / "model" / "tokenizer")
    encoder = interface.load_text_encoder(tmp_path / "model" / "text_encoder", torch.device("cpu"))
    texts = [prompt.as_prompt().render() for prompt in study_prompts()[:3]]
    embedded = interface.embed_tokens(encoder, interface.tokenize(tokenizer, texts))
    assert embedded[0].shape[1] == Sizes().text_width


def test_one_pass_encodes_and_decodes_as_wans_vae_does(tmp_path: Path) -> None:
    backbone.build_vae(TINY, torch.device("cpu")).save_pretrained(tmp_path)
    frames = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), dtype=np.uint8)
    cpu = torch.device("cpu")
    wanted = vae.encode_frames(vae.load_vae(tmp_path, cpu), frames)
    model = backbone_interface.load_vae(tmp_path, cpu)
    found = backbone_interface.encode_frames(model, frames)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    decoded = sampling.decode_latents(vae.load_vae(tmp_path, cpu), wanted[None])
    again = sampling.decode_latents(model, wanted[None])
    assert np.abs(again.astype(int) - decoded.astype(int)).max() <= 1


def test_true_renders_are_judged_right_and_exchanged_ones_wrong(tmp_path: Path) -> None:
    prompts = [p for p in study_prompts() if p.kind != "single"][::20]
    model, threshold = judge_training.load_judge(
        Run(torch.device("cpu"), WEIGHTS, tmp_path, Sizes())
    )
    right = scoring.score_videos(
        "truth", 0, _write_renders(prompts, tmp_path), prompts, model, threshold
    )
    shares = {
        name: np.mean([np.mean(row[name]) for row in right])
        for name in ("all_kept", "all_right", "present", "style_kept", "action_right")
    }
    # The judge reads compressed files here, and was trained on frames as they are drawn.
    assert min(shares.values()) >= 0.85, shares
    wrong = prompts[1:] + prompts[:1]
    videos = {a.id: tmp_path / f"{b.id}.mp4" for a, b in zip(prompts, wrong, strict=True)}
    rows = scoring.score_videos("wrong", 0, videos, prompts, model, threshold)
    assert np.mean([row["all_kept"] for row in rows]) <= 0.1


def _write_renders(prompts: list[StudyPrompt], folder: Path) -> dict[str, Path]:
    files = {}
    with torch.inference_mode():
        video = renderer.render(scenes.to_tensors([prompt.scene for prompt in prompts]))
    for prompt, frames_CTHW in zip(prompts, video.frames_BCTHW, strict=True):
        files[prompt.id] = folder / f"{prompt.id}.mp4"
        pixels = (frames_CTHW.permute(1, 2, 3, 0) * 255).round().to(torch.uint8).numpy()
        with ClipWriter(
            files[prompt.id], scenes.WIDTH, scenes.HEIGHT, crf=16, preset="fast"
        ) as writer:
            for frame in pixels:
                writer.write_rgb(frame)
    return files


def _rows(values: np.ndarray) -> list[scoring.VideoRow]:
    return [
        {"prompt_id": str(p), "seed": s, "all_kept": bool(values[p, s])}  # type: ignore[typeddict-item]
        for p, s in np.ndindex(values.shape)
    ]


def test_an_interval_covers_the_share_that_videos_were_drawn_from() -> None:
    rng, covered = np.random.default_rng(0), 0
    for trial in range(100):
        chances = np.clip(rng.normal(0.3, 0.15, (64, 1)), 0, 1)
        values = (rng.random((64, 3)) < chances).astype(float)
        found = statistics.estimate(values, trial)
        assert found.low <= found.mean <= found.high
        covered += found.low <= 0.3 <= found.high
    assert covered >= 88


def test_an_interval_is_the_same_on_every_processor() -> None:
    """Ends are whole numbers over videos, not near them: nothing hangs on how sums are ordered."""
    rng = np.random.default_rng(1)
    for prompts, seeds in ((12, 3), (48, 3), (64, 3), (144, 1)):
        for trial in range(10):
            values = rng.choice([0.0, 0.5, 1.0], (prompts, seeds))
            found = statistics.estimate(values, trial)
            for end in (found.low, found.high):
                near = round(end * 2 * prompts * seeds) / (2 * prompts * seeds)
                # An end may also be interpolated between two resamples.
                assert end == near or end != pytest.approx(near, rel=1e-9)


def test_a_gain_is_paired_and_a_missing_video_is_an_error() -> None:
    before = np.zeros((40, 3))
    after = before.copy()
    after[:10] = 1
    gain = statistics.gain(_rows(after), _rows(before), lambda row: row["all_kept"])
    assert gain.mean == pytest.approx(0.25)
    assert 0.1 <= gain.low < gain.high <= 0.42
    with pytest.raises(ValueError, match="119 videos of 40 prompts and 3 seeds"):
        statistics.grid(_rows(after)[1:], lambda row: row["all_kept"])


@pytest.mark.e2e
def test_arms_run_through_mimix_and_a_second_run_computes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    folder = tmp_path / "project"
    episodes.write_project(folder, episodes=3, shots=4)
    arms = ["composites-0", "composites-20", "region-10", "cutout-start-100"]
    arguments = [str(folder), "--arms", *arms, "--seeds", "0"]
    arguments += ["--epochs", "1", "--micro-batch-size", "4", "--steps", "1", "--every", "32"]
    with pytest.raises(SystemExit) as not_run:
        study_run.main([*arguments, "--verify"])
    assert not_run.value.code == 1
    assert "of which 4 would compute something" in capsys.readouterr().out
    study_run.main(arguments)
    capsys.readouterr()
    rows = json.loads((folder / "arms" / "videos.json").read_text())
    assert len(rows) == 4 * 6
    files = {path: path.stat().st_mtime_ns for path in (folder / "workspace").rglob("*.mp4")}
    with pytest.raises(SystemExit) as finished:
        study_run.main([*arguments, "--verify"])
    assert finished.value.code == 0
    assert capsys.readouterr().out.count("nothing to compute") == 4
    study_run.main(arguments)
    assert "0 units were computed in 4 runs" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert json.loads((folder / "arms" / "videos.json").read_text()) == rows
    assert_the_eighth_is_added(folder, capsys)


def assert_the_eighth_is_added(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Train seven, then add the eighth at no more than 30 % of the steps of all eight again."""
    from flows.cached_results import collect_cached_results  # imports Prefect

    arguments = [str(folder), "--arms", "seven-of-eight", "eighth-added", "--seeds", "0"]
    arguments += ["--settings-folder", "added", "--epochs", "2", "--learning-rate", "1e-4"]
    arguments += ["--global-batch-size", "2", "--micro-batch-size", "2"]
    arguments += ["--validation-quantiles", "1", "--steps", "1", "--every", "48"]
    with pytest.raises(SystemExit) as not_run:
        study_run.main([*arguments, "--verify"])
    assert not_run.value.code == 1
    assert "of which 2 would compute something" in capsys.readouterr().out
    study_run.main(arguments)
    out = folder / "added"
    trained = {row["arm"]: row for row in json.loads((out / "trainings.json").read_text())}
    added = load_config(out / "eighth-added-0.yaml")
    assert added.dataset.new_characters == (ADDED,)
    assert added.lora.initial_adapter is not None
    before, _ = lora_export.read_metadata(added.lora.initial_adapter)
    assert ADDED not in before.characters
    assert len(before.characters) == len(NAMED_FIGURES) - 1
    everything = load_config(out / "eighth-added-0-all.yaml")
    results = collect_cached_results(out / "eighth-added-0-all.yaml", None).run
    samples = results.workspace.store.record(results.refs["dataset"][0]).notes["train"]
    whole = math.ceil(int(samples) * everything.lora.epochs / 2)
    assert 0 < trained["eighth-added"]["steps"] <= 0.3 * whole
    assert trained["seven-of-eight"]["steps"] < whole
    assert " %" in trained["eighth-added"]["forgetting"]
    assert ADDED not in trained["eighth-added"]["forgetting"]
    capsys.readouterr()
    with pytest.raises(SystemExit) as finished:
        study_run.main([*arguments, "--verify"])
    assert finished.value.code == 0
    assert capsys.readouterr().out.count("nothing to compute") == 2
