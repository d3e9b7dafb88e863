"""The paper's Tables 1 to 3: its own lines as printed, and those of a run beside them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mimix_core.benchmark.tables.load_results import Evidence
from mimix_core.benchmark.tables.metric_columns import measures
from mimix_core.benchmark.tables.paper_results import (
    ARMS,
    OTHER_PROMPTS,
    Number,
    other_judge,
    paper,
)
from mimix_core.benchmark.tables.row_builders import MULTIPLE, cells, subjects
from mimix_core.benchmark.tables.table_model import Cell, Line, Sheet
from mimix_core.errors import BadInput

INTERVALS = (
    "Beside each mean: its 95 % interval by bootstrap over prompts, and how many prompts have a "
    "value where not all have. A failed or missing value is counted and stands for nothing."
)
DIMENSIONS = (
    "VBench columns are its dimensions on the whole video as it is, each video one prompt: not "
    "VBench-Long, and not VBench's own prompts."
)


def table_1(evidence: Evidence) -> Sheet:
    """The paper's comparison of systems, by one or several characters."""
    quoted = paper().table("table-1")
    columns = measures(quoted.columns)
    lines: list[Line] = []
    for subject, ids in subjects(evidence).items():
        lines += [
            Line((f"{row.labels[0]} (paper)", subject), tuple(map(Cell, row.values)), quoted=True)
            for row in quoted.rows
            if row.labels[1] == subject
        ]
        lines += [
            Line((system, subject), cells(evidence, system, columns, ids))
            for system in evidence.systems
            if ids
        ]
    return Sheet(
        key="table-1",
        title="Table 1. Systems compared",
        lead="The paper's nine metrics. The best of the compared systems is bold.",
        heads=("Method", "Subject"),
        columns=columns,
        lines=tuple(lines),
        notes=_notes(evidence),
    )


def table_2(evidence: Evidence, arms: Mapping[str, str]) -> Sheet:
    """What a caption's tags do. ``arms``: variant of the captions -> the system trained on them."""
    return _ablation(
        evidence,
        "table-2",
        "Table 2. Caption formats",
        "Which tags captions and prompts have.",
        ("Caption format", "Source"),
        {variant: (title, arms.get(variant)) for variant, title in ARMS.items()},
        _unknown(arms, ARMS, "--format"),
    )


def table_3(evidence: Evidence, ratios: Mapping[str, str]) -> Sheet:
    """How much is composited. ``ratios``: e.g. ``10%`` -> the system trained with that share."""
    printed = [row.labels[0] for row in paper().table("table-3").rows]
    own = {share: (share, ratios.get(share)) for share in [*printed, *ratios]}
    ordered = dict(sorted(own.items(), key=lambda item: _percent(item[0])))
    return _ablation(
        evidence,
        "table-3",
        "Table 3. Share of composites",
        "How many of the training clips put a character into the other style.",
        ("Share", "Source"),
        ordered,
        dict(ratios),
    )


def _ablation(
    evidence: Evidence,
    number: Number,
    title: str,
    lead: str,
    heads: tuple[str, str],
    arms: Mapping[str, tuple[str, str | None]],
    named: Mapping[str, str],
) -> Sheet:
    strangers = sorted(set(named.values()) - set(evidence.systems))
    if strangers:
        raise BadInput(
            f"{strangers[0]!r} is no --system",
            where=title,
            fix=f"The systems are {', '.join(evidence.systems)}.",
        )
    printed = {row.labels[0]: row for row in paper().table(number).rows}
    columns = measures(paper().table(number).columns)
    ids = subjects(evidence)[MULTIPLE]
    lines: list[Line] = []
    for arm, (label, system) in arms.items():
        if arm in printed:
            lines.append(Line((label, "paper"), tuple(map(Cell, printed[arm].values)), quoted=True))
        if system is not None:
            lines.append(Line((label, "run"), cells(evidence, system, columns, ids)))
    runs = (
        f"The lines of the run: {', '.join(f'{arm} is {name}' for arm, name in named.items())}."
        if named
        else "No system was named as one of these arms, so only the paper's lines stand here."
    )
    of = (
        "The paper does not say over which videos its ablations were taken; the run's are those of "
        "several characters."
    )
    return Sheet(number, title, lead, heads, columns, tuple(lines), (runs, of, *_notes(evidence)))


def _notes(evidence: Evidence) -> tuple[str, ...]:
    judge = () if evidence.judge is None else (other_judge(evidence.judge.model),)
    return (INTERVALS, OTHER_PROMPTS, *judge, DIMENSIONS)


def _unknown(arms: Mapping[str, str], known: Collection[str], option: str) -> Mapping[str, str]:
    strangers = sorted(set(arms) - set(known))
    if strangers:
        raise BadInput(
            f"{strangers[0]!r} is no format of captions",
            where=option,
            fix=f"There are {', '.join(known)}.",
        )
    return arms


def _percent(share: str) -> float:
    try:
        if not share.endswith("%"):
            raise ValueError
        return float(share[:-1])
    except ValueError:
        raise BadInput(f"{share!r} is no share", where="--ratio", fix="Write e.g. 10%.") from None
