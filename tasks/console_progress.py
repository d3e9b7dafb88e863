"""What a person sees while stages run: one bar per stage, one line per stage when it is done."""

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
    """Console progress of one run. Units may report from several threads."""

    console: Console = field(default_factory=Console)
    finished_stages: list[StageTotals] = field(default_factory=list)
    _bars: Progress | None = None
    _unit_fractions: dict[tuple[str, str], float] = field(default_factory=dict)
    _tasks: dict[str, TaskID] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def stage(self, name: str, units: int) -> Iterator[None]:
        """Show a bar for the stage while its units run; only a terminal gets the bar."""
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

    def update(self, stage: str, unit: str, done: int, steps: int, note: str) -> None:
        """A unit says how far it is."""
        with self._lock:
            self._unit_fractions[(stage, unit)] = done / steps if steps else 1.0
            if self._bars is not None and stage in self._tasks:
                share = sum(v for (name, _), v in self._unit_fractions.items() if name == stage)
                self._bars.update(
                    self._tasks[stage], completed=share, note=escape(f"{unit} {note}".strip())
                )

    def finish_stage(self, line: StageTotals) -> None:
        """Print the stage's line."""
        self.finished_stages.append(line)
        counts = line.counts
        said = f"{counts.ok} ok"
        if counts.rejected:
            said += f", {counts.rejected} rejected"
        if counts.failed:
            said += f", {counts.failed} failed"
        colour = "red" if counts.failed else "default"
        if line.cached:
            how = "[green]cached[/green]"
        elif line.computed < line.units:
            how = f"{line.seconds:.1f} s, {line.units - line.computed} of {line.units} cached"
        else:
            how = f"{line.seconds:.1f} s"
        rows = f"{counts.rows_in:>5} in: [{colour}]{said:<32}[/]"
        self.console.print(f"  [bold]{line.stage:<12}[/bold] {rows} {how}", highlight=False)

    def warn(self, message: str) -> None:
        """One line per warning."""
        said = f"  [yellow]warning[/yellow] {escape(message)}"
        self.console.print(said, highlight=False, soft_wrap=True)


class Stopwatch:
    """Wall seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._start
