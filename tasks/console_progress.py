"""Show the progress of stages on the console: a bar while one runs, a line when it is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tasks.run_summary import StageTotals


@dataclass
class ConsoleProgress:
    """Console progress of one run; units may report from several threads."""

    console: Console = field(default_factory=Console)
    finished_stages: list[StageTotals] = field(default_factory=list)
    _bars: Progress | None = None
    _unit_fractions: dict[tuple[str, str], float] = field(default_factory=dict)
    _tasks: dict[str, TaskID] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def stage(self, name: str, units: int) -> Iterator[None]:
        """Show a progress bar while the stage's units run, if the console is a terminal."""
        with Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[note]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        ) as bars:
            self._tasks[name] = bars.add_task(name, total=units, note="")
            self._bars = bars
            try:
                yield
            finally:
                self._bars = None

    def update(self, stage: str, unit: str, done: int, total: int, note: str) -> None:
        """Update the bar with the progress of one unit."""
        with self._lock:
            self._unit_fractions[(stage, unit)] = done / total if total else 1.0
            if self._bars is not None and stage in self._tasks:
                completed = sum(v for (name, _), v in self._unit_fractions.items() if name == stage)
                self._bars.update(
                    self._tasks[stage], completed=completed, note=escape(f"{unit} {note}".strip())
                )

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
        self.console.print(f"  [bold]{totals.stage:<12}[/bold] {rows} {duration}", highlight=False)

    def warn(self, message: str) -> None:
        """Print a warning on one line."""
        text = f"  [yellow]warning[/yellow] {escape(message)}"
        self.console.print(text, highlight=False, soft_wrap=True)


class Stopwatch:
    """Measure the wall time since its creation, in seconds."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._start
