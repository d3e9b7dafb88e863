"""``mimix lora``: what an adapter is made of, and the same adapter as other programs read it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows import prefect_environment
from flows.console import WorkspaceOption, console, load_settings, user_errors
from mimix_core.errors import BadInput
from mimix_core.wan.lora_formats import AdapterLayout

app = typer.Typer(
    name="lora", help="Show, export and import trained adapters.", no_args_is_help=True
)

To = Annotated[Path, typer.Option("--to", help="The new file.")]
_SUFFIX = ".safetensors"


@app.command()
def show(file: Annotated[Path, typer.Argument(help="An adapter of MiMix, in any layout.")]) -> None:
    """What an adapter was made of."""
    from mimix_core.wan import lora_export

    with user_errors():
        card, layout = lora_export.read_metadata(file)
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (
        ("base", f"{card.base}, sha256 {card.base_sha256}"),
        ("weights", "running mean of the training" if card.weights == "ema" else "as trained"),
        ("rank, alpha", f"{card.rank}, {card.alpha:g}"),
        ("layers", ", ".join(card.targets)),
        ("prompts", card.grammar),
        ("characters", ", ".join(card.characters) or "none"),
        ("styles", ", ".join(card.styles) or "none"),
        ("dataset", f"sha256 {card.dataset_sha256}"),
        ("layout", layout.value),
        ("MiMix", card.mimix),
        *((name, str(value)) for name, value in sorted(card.settings.items())),
    ):
        table.add_row(escape(name), escape(value))
    console.print(table)


@app.command()
def export(
    run: Annotated[
        Path,
        typer.Argument(help=f"The settings file of a run, or an adapter file ({_SUFFIX})."),
    ],
    to: To,
    layout: Annotated[
        AdapterLayout, typer.Option("--format", help="Who reads it.")
    ] = AdapterLayout.COMFYUI,
    ema: Annotated[
        bool, typer.Option("--ema", help="The running mean of the training, if it was kept.")
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Write a trained adapter for ComfyUI, for kohya's tools (musubi-tuner) or for diffusers."""
    with user_errors():
        if ema and run.suffix == _SUFFIX:
            raise BadInput("--ema chooses among a run's adapters, and this is one", where=str(run))
        source = run if run.suffix == _SUFFIX else _trained(run, workspace, ema=ema)
        _convert(source, layout, to)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="An exported adapter of MiMix, in any layout.")],
    to: To,
) -> None:
    """Write an exported adapter back as MiMix and diffusers read it."""
    with user_errors():
        _convert(file, AdapterLayout.DIFFUSERS, to)


def _convert(source: Path, layout: AdapterLayout, to: Path) -> None:
    from mimix_core.wan import lora_export

    if to.exists():
        raise BadInput("is there already", where=str(to), fix="Name a new file.")
    if to.suffix != _SUFFIX or not to.parent.is_dir():
        raise BadInput(
            f"cannot become a {_SUFFIX} file",
            where=str(to),
            fix="Name one in a folder that is there.",
        )
    adapter, card = lora_export.read_adapter(source)
    lora_export.write_adapter(to, adapter, card, layout)
    console.print(
        f"rank {adapter.rank}, {len(adapter.pairs)} layers, for {layout.value}: {to}",
        highlight=False,
        soft_wrap=True,
    )


def _trained(settings: Path, workspace: Path | None, *, ema: bool) -> Path:
    """The adapter of the run that these settings describe. Raises BadInput when there is none."""
    prefect_environment.configure_prefect()
    config = load_settings(settings, workspace)
    from flows.augment import augment_stages
    from flows.curate import curate_stages
    from flows.train import train_stages
    from mimix_core.project.workspace import open_workspace
    from mimix_core.wan import lora_export
    from tasks.cached_run import ReadOnlyRun

    found = ReadOnlyRun(open_workspace(config))
    curated = curate_stages(found)
    folder = train_stages(found, curated, augment_stages(found, curated)).lora.folder
    path = folder / (lora_export.EMA_ADAPTER_FILE if ema else lora_export.ADAPTER_FILE)
    if not path.is_file():
        raise BadInput(
            "no running mean was kept",
            where=str(folder),
            fix="Train with lora.ema_decay set, or leave out --ema.",
        )
    return path
