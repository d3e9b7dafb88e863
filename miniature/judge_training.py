"""Train the judge on renders, and measure it on renders it never saw."""

from __future__ import annotations

import random

import torch

from miniature import (
    checkpoints,
    feed,
    judge,
    renderer,
)
from miniature import scenes as world
from miniature.judge import Judge
from miniature.training_run import Clock, Run, decayed, render, report, set_rate

Tensor = torch.Tensor


def train_judge(run: Run, seconds: float) -> Judge:
    """Train and calibrate the judge on renders, then measure it on held-out ones."""
    model = Judge().to(run.device)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.02, betas=(0.9, 0.98))
    stream = feed.stream("judged", run.batch(96), "judge", run.workers)
    clock, step, recent = Clock(seconds), 0, 0.0
    while clock:
        set_rate(optimizer, min(1.0, (step + 1) / 200) * decayed(clock.progress(), 0.3))
        batch = next(stream)
        video = render(run, batch, compiled=True)
        targets = judge.truth(
            video, batch.tensors.to(run.device), batch.name_BF.to(run.device, non_blocking=True)
        )
        with run.autocast():
            outputs = model(video.frames_BCTHW)
        value = judge.loss(outputs, targets)
        optimizer.zero_grad()
        torch.autograd.backward(value)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            recent = float(value)
            report(run, "judge", step=step, seconds=clock.elapsed(), loss=recent)
    del stream
    samples = step * run.batch(96)
    report(run, "judge trained", samples=samples, samples_per_s=samples / clock.elapsed())
    threshold = evaluate_judge(run, model, None, "calibration", 24)
    evaluate_judge(run, model, threshold, "held-out", 48)
    half = checkpoints.as_half(model.state_dict())
    checkpoints.save(run.out, "judge", {"model": half, "threshold": threshold})
    checkpoints.save(run.state, "judge", {"model": half, "threshold": threshold})
    return model


@torch.no_grad()
def judge_videos(run: Run, model: Judge, frames_BCTHW: Tensor) -> dict[str, Tensor]:
    """Run the judge without gradients."""
    with run.autocast():
        return {k: v.float() for k, v in model(frames_BCTHW).items()}


@torch.no_grad()
def evaluate_judge(
    run: Run, model: Judge, threshold: float | None, split: str, batches: int
) -> float:
    """Measure the judge on renders it never saw; choose the threshold where none is given."""
    model.eval()
    rng = random.Random(f"judge {split}")
    present: list[Tensor] = []
    absent: list[Tensor] = []
    right: dict[str, list[Tensor]] = {}
    batch_size = run.batch(64)
    for _ in range(max(1, int(batches * min(1.0, run.scale * 4)))):
        scenes = [judge.draw_judged_scene(rng) for _ in range(batch_size)]
        tensors = world.to_tensors(scenes).to(run.device)
        video = renderer.render(tensors)
        outputs = judge_videos(run, model, video.frames_BCTHW)
        for name in judge.WHOLE:
            target = {
                "background": tensors.background_B,
                "background_style": tensors.background_style_B.long(),
                "contact": video.contact_B.long(),
            }[name]
            right.setdefault(name, []).append(outputs[name].argmax(1) == target)
        for place in range(2):
            rows = [row for row, scene in enumerate(scenes) if len(scene.cast) > place]
            asked = [scenes[row].cast[place] for row in rows]
            actions = [scenes[row].actions()[place] for row in rows]
            picked = {name: value[rows] for name, value in outputs.items()}
            found = judge.verdict(picked, asked, actions)
            present.append(found.cells)
            right.setdefault("style", []).append(found.style_share > 0.5)
            right.setdefault("action", []).append(found.action_share > 0.5)
            names = torch.tensor([judge.name_index(f) for f in asked], device=run.device)
            weight = picked["figure"].softmax(1)[:, 1:]
            if place == 0:
                alone = [i for i, row in enumerate(rows) if len(scenes[row].cast) == 1]
                vote = (weight * picked["name"].softmax(1)).flatten(2).sum(2).argmax(1)
                right.setdefault("name_alone", []).append((vote == names)[alone])
            others = [judge.change_one(rng, figure) for figure in asked]
            wrong = judge.verdict(picked, others, actions).cells
            free = [
                i
                for i, row in enumerate(rows)
                if all(others[i].identity() != f.identity() for f in scenes[row].cast)
            ]
            absent.append(wrong[free])
    hit, miss = torch.cat(present), torch.cat(absent)
    limit = judge.best_threshold(hit, miss) if threshold is None else threshold
    values = {name: float(torch.cat(v).float().mean()) for name, v in right.items()}
    recall, rejected = float((hit >= limit).float().mean()), float((miss < limit).float().mean())
    report(
        run,
        f"judge {split}",
        figures=len(hit),
        threshold=limit,
        present_found=recall,
        absent_rejected=rejected,
        presence=(recall + rejected) / 2,
        **values,
    )
    return limit


def load_judge(run: Run) -> tuple[Judge, float]:
    content = checkpoints.load(run.state, "judge")
    model = Judge()
    model.load_state_dict(checkpoints.from_8_bits(content["model"]))
    return model.to(run.device).eval(), content["threshold"]
