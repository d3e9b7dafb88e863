"""Tasks ``composites`` and ``recaptions``: paste characters into other scenes and caption them."""

from collections.abc import Sequence

from mimix_core.engine.artifacts import TableRef
from mimix_core.stages.captions.recaption import RecaptionInputs
from mimix_core.stages.composites.stage import CompositeInputs
from tasks.base import Run, stage_task
from tasks.captions import caption_model_inputs, load_retries, tokenizer_file

composites_task = stage_task("composites")
recaptions_task = stage_task("recaptions")


def make_composites(
    run: Run,
    clips: Sequence[TableRef],
    captions: Sequence[TableRef],
    cutouts: Sequence[TableRef],
) -> TableRef:
    """Make composites; one table over all episodes, since pairing depends on all of them."""
    config = run.workspace.config
    inputs = CompositeInputs(
        unit="all",
        clips=tuple(clips),
        captions=tuple(captions),
        cutouts=tuple(cutouts),
        split=config.dataset,
    )
    return run.run_single(composites_task, inputs, config.composites)


def caption_composites(run: Run, composites: TableRef, captions: Sequence[TableRef]) -> TableRef:
    """Caption every composite; one table."""
    inputs = RecaptionInputs(
        unit="all",
        composites=composites,
        captions=tuple(captions),
        tokenizer=tokenizer_file(run.workspace),
        retries=load_retries(run.workspace, "recaptions"),
        **caption_model_inputs(run.workspace),
    )
    return run.run_single(recaptions_task, inputs, run.workspace.config.captions.effective())
