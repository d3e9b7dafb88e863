"""Videos of the prompts, and their scores."""

from collections.abc import Sequence

from mimix_core.benchmark.scores import ScoreInputs
from mimix_core.errors import BadInput
from mimix_core.refs import TableRef
from mimix_core.wan.generate import SampleInputs
from tasks.base import Run, stage_task
from tasks.training import Backbone

samples_task = stage_task("samples")
scores_task = stage_task("scores")


def samples(run: Run, model: Backbone, lora: TableRef) -> TableRef:
    """One video per prompt."""
    settings = run.workspace.config.samples
    prompts = run.workspace.file(settings.prompts, "samples.prompts")
    if prompts is None:
        raise BadInput(
            "no prompts to generate from",
            where="settings, key samples.prompts",
            fix="Write the path of a prompts file (see demo/prompts.yaml).",
        )
    inputs = SampleInputs(
        unit="all",
        prompts=prompts,
        roster=tuple(c.name for c in run.workspace.library.characters()),
        backbone_name=model.name,
        transformer=model.components["transformer"],
        vae=model.components["vae"],
        text_encoder=model.components["text_encoder"],
        tokenizer=model.components["tokenizer"],
        scheduler=model.components["scheduler"],
        lora=lora,
    )
    return run.one(samples_task, inputs, settings)


def scores(run: Run, samples: TableRef, clips: Sequence[TableRef]) -> TableRef:
    """Every metric of every generated video, and of the real clips for scale."""
    inputs = ScoreInputs(unit="all", samples=samples, clips=tuple(clips))
    return run.one(scores_task, inputs, run.workspace.config.scores)
