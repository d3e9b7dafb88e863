"""Do two machines make the same tables and clips of the same episode?

``python perf/digests.py NAME VIDEO...`` runs scenes, overlays (no detector), clips and duplicates
and writes the digests of all tables to ``perf/results/digests.json`` under NAME, the machine's, and
says whether they agree with those of every other machine in the file that ran the same versions of
these stages. Each row of clips holds the digests of its files, so the tables' digests cover pixels
and sound too.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core import tables
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.settings import ClipSettings, DuplicateSettings, OverlaySettings, SceneSettings
from mimix_core.stages import clips, duplicates, overlays, scenes
from perf.record import RESULTS, machine

PATH = RESULTS / "digests.json"
STAGES = (scenes, overlays, clips, duplicates)


def main(name: str, videos: list[Path]) -> int:
    stages = {stage.STAGE.name: stage.STAGE.version for stage in STAGES}
    found = _digests(videos)
    entry = {
        "machine": machine(),
        "system": platform.platform(),
        "versions": {
            package: version(package)
            for package in ("av", "numpy", "opencv-python-headless", "pyarrow")
        },
        "stages": stages,
        "tables": found,
    }
    results = json.loads(PATH.read_text()) if PATH.exists() else {}
    others = {
        other: value["tables"]
        for other, value in results.items()
        if other != name and value.get("stages") == stages
    }
    PATH.write_text(json.dumps(results | {name: entry}, indent=1, sort_keys=True) + "\n")
    differing = [
        f"{other}: {table}: {column}"
        for other, digests in others.items()
        for table, columns in found.items()
        for column, digest in columns.items()
        if digests[table][column] != digest
    ]
    for other in sorted(results.keys() - others.keys() - {name}):
        print(f"{other}: of other versions of the stages, not compared")
    if others:
        print(f"compared with {len(others)} machines")
        print("\n".join(differing) or "all tables agree")
    return 1 if differing else 0


def _digests(videos: list[Path]) -> dict[str, dict[str, str]]:
    """Per table and column a digest of all its values (pyarrow writes its version into files)."""
    tables_of: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory(prefix="mimix-perf-") as folder:
        store = Store(Path(folder))
        made: list[TableRef] = []
        for video in videos:
            source = store.source_ref(video)
            about = {"unit": video.stem, "show": "show", "video": source}
            seen = scenes.SceneInputs(style=Style.CARTOON, **about)
            scene = run_stage(store, scenes.STAGE, seen, SceneSettings()).ref
            looked = overlays.OverlayInputs(scenes=scene, **about)
            plain = OverlaySettings(backend="none")
            whole = run_stage(store, overlays.STAGE, looked, plain).ref
            asked = clips.ClipInputs(unit=video.stem, video=source, scenes=scene, overlays=whole)
            clip = run_stage(store, clips.STAGE, asked, ClipSettings()).ref
            made.append(clip)
            for ref, table in (
                (scene, tables.SCENES),
                (whole, tables.OVERLAYS),
                (clip, tables.CLIPS),
            ):
                tables_of[f"{video.name} {table.name}"] = _digest(ref.path, table)
        asked_all = duplicates.DuplicateInputs(unit="all", clips=tuple(made))
        twins = run_stage(store, duplicates.STAGE, asked_all, DuplicateSettings()).ref
        tables_of["duplicates"] = _digest(twins.path, tables.DUPLICATES)
    return tables_of


def _digest(path: Path, table: tables.Table[Any]) -> dict[str, str]:
    rows = tables.read(path, table)
    return {
        column: hashlib.sha256(
            json.dumps([row[column] for row in rows], default=bytes.hex).encode()
        ).hexdigest()[:16]
        for column in table.schema.names
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], [Path(argument) for argument in sys.argv[2:]]))
