"""Define which phases of the pipeline each flow runs."""

from __future__ import annotations

from mimix_core.engine.stage import Phase

LAST_PHASE = {
    "inbox": Phase.CURATION,
    "curate": Phase.CURATION,
    "augment": Phase.AUGMENTATION,
    "train": Phase.TRAINING,
    "generate": Phase.GENERATION,
    "benchmark": Phase.EVALUATION,
    "mimix": Phase.REPORT,
}
"""Last phase of each flow; a flow runs all phases up to it."""


_COMMANDS = {
    Phase.CURATION: "mimix curate",
    Phase.AUGMENTATION: "mimix augment",
    Phase.TRAINING: "mimix train",
    Phase.GENERATION: "mimix generate",
    Phase.EVALUATION: "mimix score",
    Phase.REPORT: "mimix run",
}


def phases_of_flow(flow_name: str) -> tuple[Phase, ...]:
    """Return the phases that a flow runs, in order; none for a flow from outside MiMix."""
    if flow_name not in LAST_PHASE:
        return ()
    phases = tuple(Phase)
    return phases[: phases.index(LAST_PHASE[flow_name]) + 1]


def command_of_phase(phase: Phase) -> str:
    """Return the shortest command whose flow runs a phase."""
    return _COMMANDS[phase]
