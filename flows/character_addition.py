"""Write the settings of a training that adds characters to an adapter, after checking all of it."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from flows.augment import augment_stages
from flows.curate import curate_stages
from mimix_core import tables
from mimix_core.diagnostics.preflight import find_problems
from mimix_core.domain.character_names import alias_map
from mimix_core.domain.splits import Split
from mimix_core.engine.yaml_files import read_yaml_file
from mimix_core.errors import BadInput
from mimix_core.project.named_tracks import named_exemplars
from mimix_core.project.workspace import Workspace, open_workspace
from mimix_core.settings import Config, load_config
from mimix_core.stages.dataset.replay import select_replay
from mimix_core.stages.dataset.stage import training_samples
from mimix_core.tables import DatasetRow
from mimix_core.training.addition_budget import AdditionBudget, plan_budget, validation_interval
from mimix_core.training.learning_rate import check_schedule
from mimix_core.wan.adapter_metadata import AdapterMetadata
from mimix_core.wan.model_registry import get_backbone
from tasks.cached_run import MissingResult, ReadOnlyRun

# As in wan.lora_export, which imports torch.
_ADAPTER_FILE = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True)
class AdditionOptions:
    """How much is trained again, and for how long at most.

    ``max_steps_share``: of the steps of training all again. ``max_forgetting``: None for no bound.
    """

    replay_share: Fraction
    max_steps_share: float
    max_forgetting: float | None


@dataclass(frozen=True)
class Addition:
    """What the written settings will train on.

    ``new_samples``: training samples by new character. ``replayed`` of ``old_samples`` without one
    are trained on again. ``held_out``: held-out samples without a new character, by old character.
    ``without_exemplars``: new characters that the character bank does not know.
    """

    settings: Path
    adapter: Path
    new_samples: dict[str, int]
    replayed: int
    old_samples: int
    held_out: dict[str, int]
    without_exemplars: tuple[str, ...]
    budget: AdditionBudget


def add_characters(
    settings: Path, names: Sequence[str], source: Path, to: Path, options: AdditionOptions
) -> Addition:
    """Check an addition and write its settings file ``to``, beside ``settings``.

    ``settings``: those of training on all characters, of which `mimix augment` has run. ``source``:
    an adapter file, or a workspace with one trained adapter, which is copied beside ``to``. Raises
    BadInput for anything that the training could not run with, and writes nothing then.
    """
    config = load_config(settings)
    if to.resolve().parent != settings.resolve().parent:
        raise BadInput(
            "is in another folder than the settings, whose paths are relative to theirs",
            where=str(to),
            fix=f"Write it to {settings.resolve().parent}.",
        )
    if config.dataset.new_characters:
        raise BadInput(
            f"these settings add {', '.join(config.dataset.new_characters)} already",
            where=f"{settings}, key dataset.new_characters",
            fix="Give the settings that train on all characters.",
        )
    if get_backbone(config.backbone.name).experts:
        raise BadInput(
            f"{config.backbone.name} has two experts with an adapter each; this command starts "
            "from one",
            where=f"{settings}, key backbone.name",
            fix="Set dataset.new_characters, dataset.replay_share, lora.initial_adapter and "
            "lora.initial_adapter_low_noise by hand (docs/adding-characters.md).",
        )
    workspace = open_workspace(config)
    new = _resolve_names(workspace, names)
    adapter = find_adapter(source)
    metadata = _check_adapter(adapter, new, config)
    rows = _dataset_rows(workspace, settings)
    samples = training_samples(rows)
    counts = Counter(name for sample in samples for name in sample.characters)
    _check_samples(new, counts, metadata)
    replayed = select_replay(samples, new, options.replay_share, config.dataset.seed)
    with_new = [sample for sample in samples if set(sample.characters) & set(new)]
    used = [*with_new, *(sample for sample in samples if sample.sample_id in replayed)]
    budget = plan_budget(used, samples, config.lora, options.max_steps_share)
    check_schedule(budget.steps, config.lora)
    held_out = _held_out_counts(rows, new)
    if options.max_forgetting is not None and not held_out:
        raise BadInput(
            "no held-out sample shows old characters alone, so nothing would tell whether they are "
            "forgotten",
            where=str(settings),
            fix="Raise dataset.val_share, or limit nothing (--max-forgetting -1).",
        )
    copied = adapter if source.is_file() else to.with_name(f"{to.stem}.initial.safetensors")
    document, _ = read_yaml_file(settings)
    initial = os.path.relpath(copied.resolve(), to.resolve().parent)
    _extend(document, new, initial, budget, config, options)
    _write_checked(to, document, adapter, copied)
    return Addition(
        settings=to,
        adapter=copied,
        new_samples={name: counts[name] for name in new},
        replayed=len(replayed),
        old_samples=len(samples) - len(with_new),
        held_out=held_out,
        without_exemplars=_without_exemplars(workspace, new),
        budget=budget,
    )


def find_adapter(source: Path) -> Path:
    """Return an adapter file, or the one trained adapter of a workspace. Raises BadInput."""
    if source.is_file():
        return source
    found = sorted(source.glob(f"store/lora/*/{_ADAPTER_FILE}"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadInput(
            "neither an adapter file nor a workspace with a trained adapter",
            where=str(source),
            fix="Give a .safetensors file, or the workspace of a completed training.",
        )
    from mimix_core.wan import lora_export

    lines = [
        f"{path}: {', '.join(lora_export.read_metadata(path)[0].characters)}" for path in found
    ]
    raise BadInput(
        "the workspace has several trained adapters:\n" + "\n".join(lines),
        where=str(source),
        fix="Give one of these files.",
    )


def _resolve_names(workspace: Workspace, names: Sequence[str]) -> tuple[str, ...]:
    """Return the library's names of the characters. Raises BadInput for an unknown one."""
    shows = workspace.library.shows
    known: dict[str, str] = {}
    for show in shows:
        known |= alias_map(show.roster(), show.aliases())
    for name in names:
        if name.casefold() not in known:
            raise BadInput(
                f"no character is named {name!r}",
                where=str(workspace.config.library),
                fix="Add it to its show, with its episodes. Known: "
                f"{', '.join(sorted(set(known.values())))}.",
            )
    return tuple(dict.fromkeys(known[name.casefold()] for name in names))


def _check_adapter(path: Path, new: Sequence[str], config: Config) -> AdapterMetadata | None:
    """Read an adapter, and return its metadata if MiMix wrote it.

    Raises BadInput if it knows a new character already or is of another backbone.
    """
    from mimix_core.training.initial_adapter import read_initial_adapter

    _, metadata = read_initial_adapter(path)
    if metadata is None:
        return None
    known = [name for name in new if name in metadata.characters]
    if known:
        raise BadInput(
            f"the adapter was trained on {', '.join(known)} already: "
            f"{', '.join(metadata.characters)}",
            where=str(path),
            fix="Name characters that it does not know.",
        )
    if metadata.base != config.backbone.name:
        raise BadInput(
            f"the adapter is one of {metadata.base}, not of {config.backbone.name}",
            where=str(path),
            fix="Give an adapter of the backbone in the settings.",
        )
    return metadata


def _dataset_rows(workspace: Workspace, settings: Path) -> list[DatasetRow]:
    """Return the dataset that training on all characters would use. Raises BadInput if missing."""
    run = ReadOnlyRun(workspace)
    try:
        dataset = augment_stages(run, curate_stages(run)).dataset
    except MissingResult as error:
        raise BadInput(
            f"the dataset with the new clips does not exist yet: {error.what}",
            where=str(settings),
            fix=f"Run `mimix augment {settings}` first.",
        ) from error
    return list(tables.usable(tables.read(dataset.path, tables.DATASET)))


def _check_samples(
    new: Sequence[str], counts: Counter[str], metadata: AdapterMetadata | None
) -> None:
    """Check that the new characters have clips, and that all others are old ones."""
    for name in new:
        if not counts[name]:
            raise BadInput(
                f"no clip or composite of the training split shows {name}",
                fix=f"Add episodes whose captions name {name}; `mimix why` says what was left out.",
            )
    if metadata is None:
        return
    others = sorted(counts.keys() - set(new) - set(metadata.characters))
    if others:
        raise BadInput(
            f"the dataset shows {', '.join(others)}, whom the adapter does not know",
            fix="Add them too, or leave them out with dataset.excluded_characters.",
        )


def _held_out_counts(rows: Sequence[DatasetRow], new: Sequence[str]) -> dict[str, int]:
    held_out = [row["characters"] for row in rows if row["split"] == Split.VAL]
    old = [names for names in held_out if not set(names) & set(new)]
    return dict(sorted(Counter(name for names in old for name in set(names)).items()))


def _without_exemplars(workspace: Workspace, new: Sequence[str]) -> tuple[str, ...]:
    config = workspace.config
    with_exemplars = set()
    for show in workspace.library.shows:
        named = named_exemplars(config.decisions, config.workspace, show.id)
        with_exemplars |= {
            one.name for one in show.characters if one.references or named.get(one.name)
        }
    return tuple(name for name in new if name not in with_exemplars)


def _extend(
    document: dict[str, Any],
    new: Sequence[str],
    initial: str,
    budget: AdditionBudget,
    config: Config,
    options: AdditionOptions,
) -> None:
    """Set in a settings document what adds the characters."""
    share = options.replay_share
    document["dataset"] = {
        **(document.get("dataset") or {}),
        "new_characters": list(new),
        "replay_share": str(float(share)),
    }
    bound = options.max_forgetting
    document["lora"] = {
        **(document.get("lora") or {}),
        "initial_adapter": initial,
        "epochs": budget.epochs,
        "validation_interval": validation_interval(budget.steps, config.lora),
        **({} if bound is None else {"max_forgetting": bound}),
    }


def _write_checked(to: Path, document: dict[str, Any], adapter: Path, copied: Path) -> None:
    """Write the settings, and the adapter beside them; leave neither if they could not run."""
    part = to.with_name(f".{to.name}")
    part_adapter = copied if copied == adapter else copied.with_name(f".{copied.name}")
    try:
        if part_adapter != adapter:
            shutil.copyfile(adapter, part_adapter)
        part.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
        config = load_config(part)
        checked = config.lora.model_copy(update={"initial_adapter": part_adapter.resolve()})
        for problem in find_problems(
            config.model_copy(update={"lora": checked}), "train", with_models=False
        ):
            raise problem
        if part_adapter != adapter:
            part_adapter.replace(copied)
        part.replace(to)
    finally:
        part.unlink(missing_ok=True)
        if part_adapter != adapter:
            part_adapter.unlink(missing_ok=True)


def describe(addition: Addition) -> list[str]:
    """Describe an addition in lines for the console."""
    budget = addition.budget
    new = ", ".join(f"{name} {count}" for name, count in addition.new_samples.items())
    measured = ", ".join(f"{name} {count}" for name, count in addition.held_out.items())
    lines = [
        f"training samples with new characters: {new}; replayed: {addition.replayed} of "
        f"{addition.old_samples} others",
        f"{budget.samples} samples, {budget.epochs} epochs: {budget.steps} optimizer steps, "
        f"{budget.share:.0%} of the {budget.all_steps} of training all {budget.all_samples} again "
        f"({budget.all_epochs} epochs)",
        f"forgetting is measured on held-out samples of {measured}"
        if measured
        else "no held-out sample shows old characters alone: forgetting is not measured",
    ]
    if addition.without_exemplars:
        lines.append(
            f"no exemplars of {', '.join(addition.without_exemplars)}: look-alikes are not found "
            "(`mimix characters propose`, or references in library.yaml)"
        )
    return lines
