"""``mimix lora``: show an adapter's metadata, and convert adapters for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows import prefect_environment
from flows.adapter_description import describe_foreign, describe_trained
from flows.console import FAILED, WorkspaceOption, console, load_settings, user_errors
from flows.new_files import check_new_file, write_new_file
from mimix_core.errors import BadInput
from mimix_core.settings import Config
from mimix_core.wan.lora_formats import AdapterDtype, AdapterLayout

app = typer.Typer(
    name="lora", help="Show, export and import trained adapters.", no_args_is_help=True
)

To = Annotated[Path, typer.Option("--to", help="File to write; it must not exist.")]
_SUFFIX = ".safetensors"
# By perf/lora_loaders.py; an export for kohya's tools refuses such layers.
_READERS_OF_BLOCKS = {
    AdapterLayout.DIFFUSERS: "a program that reads only the blocks leaves",
    AdapterLayout.COMFYUI: "FastVideo, which reads only the blocks, leaves",
}


@app.command()
def show(file: Annotated[Path, typer.Argument(help="LoRA of Wan, of any program.")]) -> None:
    """Show what an adapter was trained from, or for another program's: layout, sizes and fit."""
    from mimix_core.wan import foreign_adapters, lora_export

    with user_errors():
        # A DoRA that MiMix trained has metadata, but cannot be read as another program's LoRA.
        if lora_export.is_mimix_metadata(foreign_adapters.read_file_metadata(file)):
            rows = describe_trained(file)
        else:
            rows = describe_foreign(foreign_adapters.read_adapter_file(file))
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(escape(name), escape(value))
    console.print(table)


@app.command()
def export(
    run: Annotated[
        Path,
        typer.Argument(help=f"Settings file of a completed run, or adapter file ({_SUFFIX})."),
    ],
    to: To,
    layout: Annotated[
        AdapterLayout, typer.Option("--format", help="Program to write for.")
    ] = AdapterLayout.COMFYUI,
    dtype: Annotated[
        AdapterDtype,
        typer.Option("--dtype", help="Data type of the weights; fp32 is exactly as trained."),
    ] = AdapterDtype.BF16,
    ema: Annotated[
        bool,
        typer.Option("--ema", help="Export the EMA weights, which lora.ema_decay enables."),
    ] = False,
    epoch: Annotated[
        int | None,
        typer.Option(
            "--epoch",
            help="Export the adapter of this epoch (lora.epoch_adapter_interval).",
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option("--base", help="Folder of the base model: also write a proof for verify."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="Prompt of the proof, instead of a default.")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Export a trained adapter for ComfyUI, kohya's tools (musubi-tuner) or diffusers.

    A run that trained two experts gives two files: NAME_high_noise and NAME_low_noise.
    With --base it also generates a short video with the adapter, and writes beside the file what
    another program must get for the same prompt and seed (NAME.proof.safetensors).
    """
    with user_errors():
        for option, given in (("--ema", ema), ("--epoch", epoch is not None)):
            if given and _is_adapter_file(run):
                raise BadInput(
                    f"{option} selects an adapter of a run, but this is an adapter file",
                    where=str(run),
                    fix=f"Give the settings file of the run, or leave out {option}.",
                )
        if prompt is not None and base is None:
            raise BadInput(
                "--prompt is the proof's, and a proof needs the base model",
                fix="Give its folder with --base, or leave out --prompt.",
            )
        if base is not None and not base.is_dir():
            raise BadInput(
                "no such folder", where=str(base), fix="Give the folder of the base model."
            )
        config = None if _is_adapter_file(run) else load_settings(run, workspace)
        targets = _name_exports(to, [] if config is None else _trained_experts(config))
        # Before the results are looked up, which takes seconds.
        _check_new_files(targets, proofs=base is not None)
        sources = (
            [run]
            if config is None
            else [_find_adapter(one, ema=ema, epoch=epoch) for one in _find_results(config)]
        )
        if base is not None:
            from mimix_core.wan import export_proof

            for source in sources:
                export_proof.check_base_folder(source, base)
        for source, target in zip(sources, targets, strict=True):
            _convert(source, layout, target, dtype)
            if base is not None:
                _write_proof(target, base, prompt)


@app.command()
def epochs(
    run: Annotated[Path, typer.Argument(help="Settings file of a completed run.")],
    workspace: WorkspaceOption = None,
) -> None:
    """List the adapters that a run saved after its epochs, with their losses and previews."""
    from mimix_core.training.epoch_summary import summarize_epochs, summarize_final

    with user_errors():
        summaries = []
        for result in _find_results(load_settings(run, workspace)):
            saved = summarize_epochs(result)
            last = _final_epoch(result) if saved else None
            final = [] if last is None else [summarize_final(result, last)]
            summaries += [(_expert(result), one) for one in [*saved, *final]]
    if not summaries:
        console.print("none: lora.epoch_adapter_interval was not set, or is the last epoch")
        return
    table = Table()
    experts = any(expert for expert, _ in summaries)
    columns = ("epoch", "step", "training loss", "held-out loss", "previews")
    for column in ("expert", *columns) if experts else columns:
        table.add_column(column, overflow="fold")
    for expert, summary in summaries:
        held_out = summary.held_out_loss
        table.add_row(
            *((expert,) if experts else ()),
            f"{summary.epoch} (final)" if summary.train_loss is None else str(summary.epoch),
            str(summary.step),
            *("" if loss is None else f"{loss:.4f}" for loss in (summary.train_loss, held_out)),
            escape("\n".join(map(str, summary.previews))),
        )
    console.print(table)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="Exported adapter with a proof beside it.")],
    base: Annotated[Path, typer.Option("--base", help="Folder of the base model.")],
) -> None:
    """Load an export with diffusers' own loader and compare what it generates with its proof.

    The exit code is 1 if it differs. Pipelines that were loaded otherwise are compared in Python
    (docs/lora.md).
    """
    with user_errors():
        from mimix_core.wan import export_proof, lora_export

        lora_export.read_metadata(file)
        proof, expected = export_proof.read_proof(export_proof.proof_path(file))
        export_proof.check_base_folder(file, base)
        pipeline = export_proof.load_base_pipeline(base, proof.settings.precision)
        export_proof.load_adapter_into(pipeline, file, proof)
        result = export_proof.compare_with_proof(pipeline, proof, expected)
    console.print(
        f"velocity of the first step: relative error {result.velocity_error:.1e} (allowed "
        f"{result.max_velocity_error:.0e}); frames: {result.pixel_error} of 255 (allowed "
        f"{result.max_pixel_error}): {'equal' if result.passed else 'different'}",
        highlight=False,
        soft_wrap=True,
    )
    if not result.passed:
        raise typer.Exit(FAILED)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Exported MiMix adapter in any layout.")],
    to: To,
) -> None:
    """Convert an exported adapter back to the layout of MiMix and diffusers."""
    with user_errors():
        check_new_file(to, _SUFFIX)
        _convert(file, AdapterLayout.DIFFUSERS, to, None)


def _is_adapter_file(run: Path) -> bool:
    """Return whether an export is of a file, not of a run. Raises BadInput for a folder."""
    if run.is_dir():
        raise BadInput(
            "is a folder",
            where=str(run),
            fix=f"Give the settings file of the run, or an adapter file ({_SUFFIX}) in it.",
        )
    return run.suffix.lower() == _SUFFIX


def _trained_experts(config: Config) -> list[str]:
    """Return the experts that a run trains; none for a model of one transformer."""
    from mimix_core.wan.model_registry import get_backbone

    experts = get_backbone(config.backbone.name).experts
    return [expert.name for expert in experts if expert.name in config.lora.experts]


def _name_exports(to: Path, experts: Sequence[str]) -> list[Path]:
    """Return the file to write for each adapter: those of two experts are named by them."""
    if len(experts) < 2:
        return [to]
    return [to.with_stem(f"{to.stem}_{expert.replace('-', '_')}") for expert in experts]


def _expert(result: Path) -> str:
    """Return the expert that a result's adapter is for; empty for a model of one transformer."""
    from mimix_core.wan import lora_export

    return lora_export.read_metadata(result / lora_export.ADAPTER_FILE)[0].expert or ""


def _final_epoch(result: Path) -> int | None:
    """Return the epoch that a result's final adapter is of; None if it is of an earlier step."""
    from mimix_core.wan import lora_export

    metadata, _ = lora_export.read_metadata(result / lora_export.ADAPTER_FILE)
    epochs = metadata.settings.get("epochs")
    return epochs if metadata.step is None and isinstance(epochs, int) else None


def _check_new_files(targets: Sequence[Path], *, proofs: bool) -> None:
    """Raise BadInput unless all files to write are new, with the proof beside each if asked for."""
    for target in targets:
        check_new_file(target, _SUFFIX)
    if proofs:
        from mimix_core.wan.export_proof import proof_path

        for target in targets:
            check_new_file(proof_path(target), _SUFFIX)


def _convert(
    source: Path, layout: AdapterLayout, to: Path, dtype: AdapterDtype | None = None
) -> None:
    """Write an adapter in another layout and data type; without one that of the file."""
    from mimix_core.wan import lora_export

    adapter, metadata = lora_export.read_adapter(source)
    write_new_file(
        to, lambda part: lora_export.write_adapter(part, adapter, metadata, layout, dtype)
    )
    outside = adapter.outside_blocks
    if outside:
        console.print(
            f"Layers outside the blocks: {', '.join(outside)}. They are in the file, but "
            f"{_READERS_OF_BLOCKS[layout]} them out without a message.",
            highlight=False,
            soft_wrap=True,
        )
    stated = f"in {dtype}, " if dtype else ""
    console.print(
        f"rank {adapter.rank}, {len(adapter.pairs)} layers, {stated}for {layout.value}: "
        f"{escape(str(to))}",
        highlight=False,
        soft_wrap=True,
    )


def _write_proof(exported: Path, base: Path, prompt: str | None) -> None:
    from mimix_core.engine.torch_runtime import select_device
    from mimix_core.wan import export_proof

    settings = export_proof.ProofSettings(
        prompt=prompt or export_proof.default_prompt(exported),
        precision="bf16" if select_device("auto").type == "cuda" else "fp32",
    )
    path = export_proof.proof_path(exported)
    write_new_file(path, lambda part: export_proof.write_proof(part, exported, base, settings))
    console.print(f"proof: {escape(str(path))}", highlight=False, soft_wrap=True)


def _find_results(config: Config) -> list[Path]:
    """Find the results of the completed run with these settings, one of each trained expert.

    Raises BadInput if one is missing.
    """
    prefect_environment.configure_prefect()
    from flows.augment import augment_stages
    from flows.curate import curate_stages
    from flows.train import train_stages
    from mimix_core.project.workspace import open_workspace
    from tasks.cached_run import ReadOnlyRun

    run = ReadOnlyRun(open_workspace(config))
    curated = curate_stages(run)
    trained = train_stages(run, curated, augment_stages(run, curated))
    return [ref.folder for ref in trained.lora]


def _find_adapter(result: Path, *, ema: bool, epoch: int | None) -> Path:
    """Find an adapter in a run's result: the final one, or an epoch's. Raises BadInput.

    The last epoch's is the final one.
    """
    from mimix_core.training.epoch_adapters import epoch_adapter_path
    from mimix_core.training.epoch_summary import summarize_epochs
    from mimix_core.wan import lora_export

    if epoch is not None and epoch == _final_epoch(result):
        epoch = None
    saved = [summary.epoch for summary in summarize_epochs(result)]
    if epoch is not None and epoch not in saved:
        raise BadInput(
            f"the run saved no adapter of epoch {epoch}",
            where=str(result),
            fix=f"It saved those of {', '.join(map(str, saved))}."
            if saved
            else "Train with lora.epoch_adapter_interval, or leave out --epoch.",
        )
    path = (
        result / (lora_export.EMA_ADAPTER_FILE if ema else lora_export.ADAPTER_FILE)
        if epoch is None
        else result / epoch_adapter_path(epoch, ema=ema)
    )
    if not path.is_file():
        raise BadInput(
            "the run has no EMA weights",
            where=str(result),
            fix="Train with lora.ema_decay, or leave out --ema.",
        )
    return path
