"""Show the progress of stages on the console: a bar while one runs, a line when it is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mimix_core.engine.row_reasons import ReasonSummary
from mimix_core.project.live_status import LiveStatusWriter
from tasks.run_summary import StageTotals
from tasks.safe_console import SafeConsole

SECONDS_BETWEEN_LINES = 60.0
"""Seconds between two lines on the progress of a stage where no bar can be shown."""

REASONS_SHOWN = 3
"""Number of reasons that are printed under the line of a stage."""


@dataclass
class ConsoleProgress:
    """Console progress of one run; units may report from several threads."""

    console: SafeConsole = field(default_factory=SafeConsole)
    finished_stages: list[StageTotals] = field(default_factory=list)
    live: LiveStatusWriter | None = None
    """Where the progress is published for other processes; None in short uses."""

    _bars: Progress | None = None
    _unit_fractions: dict[tuple[str, str], float] = field(default_factory=dict)
    _tasks: dict[str, TaskID] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _units: int = 0
    _started: float = 0.0
    _printed: float = 0.0

    @contextmanager
    def stage(self, name: str, units: int) -> Iterator[None]:
        """Show a progress bar while the stage's units run, if the console is a terminal."""
        with Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        ) as bars:
            self._tasks[name] = bars.add_task(name, total=units, note="")
            self._started = self._printed = time.monotonic()
            self._units = units
            self._bars = bars
            if self.live is not None:
                self.live.begin(name, units)
            try:
                yield
            finally:
                self._bars = None
                if self.live is not None:
                    self.live.end(name)

    def update(self, stage: str, unit: str, done: int, total: int, note: str) -> None:
        """Update the bar with the progress of one unit."""
        with self._lock:
            self._unit_fractions[(stage, unit)] = done / total if total else 1.0
            if self._bars is not None and stage in self._tasks:
                completed = sum(v for (name, _), v in self._unit_fractions.items() if name == stage)
                self._print_time_left(stage, completed)
                if self.live is not None:
                    self.live.advance(stage, completed, f"{unit} {note}".strip())
                self._bars.update(
                    self._tasks[stage], completed=completed, note=escape(f"{unit} {note}".strip())
                )

    def _print_time_left(self, stage: str, completed: float) -> None:
        """Print how far a stage is, at intervals, where no bar can be shown."""
        now = time.monotonic()
        if self.console.is_terminal or now - self._printed < SECONDS_BETWEEN_LINES:
            return
        self._printed = now
        elapsed, units = now - self._started, self._units
        left = ""
        if 0 < completed <= units:
            left = f", about {format_duration(elapsed * (units / completed - 1))} left"
        self.console.print(f"  {stage:<12} {completed:.1f} of {units} units{left}", highlight=False)

    def finish_stage(self, totals: StageTotals) -> None:
        """Record a finished stage and print its line."""
        self.finished_stages.append(totals)
        counts = totals.counts
        text = f"{counts.ok} ok"
        if counts.rejected:
            text += f", {counts.rejected} rejected"
        if counts.failed:
            text += f", {counts.failed} failed"
        color = "red" if counts.failed else "default"
        if totals.cached:
            duration = "[green]cached[/green]"
        elif totals.computed < totals.units:
            cached = totals.units - totals.computed
            duration = f"{totals.seconds:.1f} s, {cached} of {totals.units} cached"
        else:
            duration = f"{totals.seconds:.1f} s"
        rows = f"{counts.rows_in:>5} in: [{color}]{text:<32}[/]"
        line = f"  [bold]{totals.stage:<12}[/bold] {rows} {duration}"
        self.console.print(line, highlight=False, soft_wrap=True)
        for reason in format_reasons(totals.reason_summaries):
            self.console.print(f"{'':14}{escape(reason)}", highlight=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """Print a warning on one line."""
        text = f"  [yellow]warning[/yellow] {escape(message)}"
        self.console.print(text, highlight=False, soft_wrap=True)


def format_reasons(reasons: Sequence[ReasonSummary], limit: int = REASONS_SHOWN) -> list[str]:
    """Format the most common reasons, one line each, and a line that counts the others."""
    lines = [f"{one.rows:>6} {one.status}: {one.describe()}" for one in reasons[:limit]]
    others = reasons[limit:]
    if others:
        rows = sum(one.rows for one in others)
        lines.append(f"{rows:>6} for {len(others)} other reasons")
    return lines


def format_duration(seconds: float) -> str:
    """Format a duration roughly, e.g. ``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class Stopwatch:
    """Measure the wall time since its creation, in seconds."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._start
