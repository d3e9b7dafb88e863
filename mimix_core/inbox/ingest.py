"""Ingest files into a show's folder, with an outcome and a reason for each file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from mimix_core.domain.episode_files import find_episode_files, is_glob
from mimix_core.domain.library import Library, parse_library
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.inbox import video_probe
from mimix_core.inbox.atomic_copy import (
    SourceChanged,
    TransferMode,
    folder_lock,
    has_content,
    transfer_file,
)
from mimix_core.inbox.candidates import (
    IngestOutcome,
    IngestResult,
    find_candidates,
    find_sidecars,
    folders_between,
    list_sidecars,
    rejection_reason,
    sidecar_problem,
)
from mimix_core.inbox.unfinished_files import find_unfinished
from mimix_core.settings import Config


@dataclass(frozen=True)
class _EpisodeGlob:
    """A folder whose files with names that match ``pattern`` are episodes of the show."""

    folder: Path
    pattern: str


@dataclass
class _Ingestion:
    """The state of one call; ``videos`` maps the digest of each library video to file and show."""

    library: Path
    show: str
    globs: list[_EpisodeGlob]
    videos: dict[str, tuple[Path, str]]
    store: Store
    mode: TransferMode
    rename: bool
    dry_run: bool


def ingest(
    config: Config,
    show: str,
    sources: Iterable[str | Path],
    *,
    mode: TransferMode = TransferMode.COPY,
    rename: bool = False,
    dry_run: bool = False,
    settle_seconds: float | None = None,
    on_result: Callable[[IngestResult], None] = lambda result: None,
) -> list[IngestResult]:
    """Add new episodes of a show to the folder of its glob in ``library.yaml``.

    Returns the result of each file, and passes it to ``on_result`` as soon as it is known. No file
    is replaced; ``rename`` chooses a new name for a file whose name is taken by other content.
    Concurrent calls wait for each other, folder by folder. ``settle_seconds`` replaces the setting
    ``inbox_settle_seconds``. Raises BadInput when the show is unknown
    or has no glob.
    """
    sources = list(sources)
    library = parse_library(config.library)
    base = config.library.resolve().parent
    globs = _episode_globs(library, show, base, config.library)
    paths, results = find_candidates(sources)
    for result in results:
        on_result(result)
    candidates = {}
    for path in paths:
        reason = rejection_reason(path)
        if reason:
            results.append(IngestResult(path, IngestOutcome.REJECTED, reason))
            on_result(results[-1])
        else:
            candidates[path] = folders_between(path, sources)
    unfinished = find_unfinished(
        candidates,
        config.inbox_settle_seconds if settle_seconds is None else settle_seconds,
        list_sidecars(candidates),
    )
    store = Store(config.workspace / "store")
    with ExitStack() as locks:
        if not dry_run:
            for folder in sorted({episode_glob.folder for episode_glob in globs}):
                folder.mkdir(parents=True, exist_ok=True)
                locks.enter_context(folder_lock(folder))
        ingestion = _Ingestion(
            library=config.library,
            show=show,
            globs=globs,
            videos=index_library_videos(library, base, store),
            store=store,
            mode=mode,
            rename=rename,
            dry_run=dry_run,
        )
        for path, qualifier in _name_qualifiers(candidates).items():
            if path in unfinished:
                detail = f"{unfinished[path]}. Try later"
                results.append(IngestResult(path, IngestOutcome.INCOMPLETE, detail))
            else:
                results.append(_ingest_file(ingestion, path, qualifier))
            on_result(results[-1])
    return results


def _episode_globs(library: Library, show: str, base: Path, source: Path) -> list[_EpisodeGlob]:
    """Return folder and name pattern of each glob of the show. Raises BadInput without any."""
    show_ids = [known.id for known in library.shows]
    if show not in show_ids:
        raise BadInput(
            f"no show {show!r}", where=str(source), fix=f"The shows are: {', '.join(show_ids)}."
        )
    globs = []
    for episode in library.get_show(show).episodes:
        parts = [part for part in episode.path.parts if part != "**"]
        if is_glob(episode.path) and not is_glob(Path(*parts[:-1])):
            globs.append(_EpisodeGlob(base / Path(*parts[:-1]), parts[-1]))
    if not globs:
        raise BadInput(
            f"show {show} lists single files as its episodes, so a new file would not belong to it",
            where=str(source),
            fix=f"Add a line to its episodes: - path: episodes/{show}/*.mp4",
        )
    return globs


def index_library_videos(library: Library, base: Path, store: Store) -> dict[str, tuple[Path, str]]:
    """Map the digest of each video in the library to its file and show id."""
    videos: dict[str, tuple[Path, str]] = {}
    for show in library.shows:
        for episode in show.episodes:
            for path in find_episode_files(base, episode.path):
                if not rejection_reason(path):
                    videos.setdefault(store.source_ref(path).sha256, (path, show.id))
    return videos


def _name_qualifiers(candidates: Mapping[Path, tuple[str, ...]]) -> dict[Path, str]:
    """Return for each file what to put before its name if that is taken; empty for nothing.

    These are the folders that it is in, below its source. Several files of one call with the same
    name are qualified by their folder in any case.
    """
    counts = Counter(path.name for path in candidates)
    return {
        path: " ".join(folders or ((path.parent.name,) if counts[path.name] > 1 else ()))
        for path, folders in candidates.items()
    }


def _ingest_file(ingestion: _Ingestion, path: Path, qualifier: str) -> IngestResult:
    try:
        return _check_and_transfer(ingestion, path, qualifier)
    except SourceChanged:
        detail = "changed while it was copied: try later"
        return IngestResult(path, IngestOutcome.INCOMPLETE, detail)
    except OSError as error:
        return IngestResult(path, IngestOutcome.REJECTED, f"{error.strerror or error}")


def _check_and_transfer(ingestion: _Ingestion, path: Path, qualifier: str) -> IngestResult:
    sha256 = ingestion.store.source_ref(path).sha256
    if sha256 in ingestion.videos:
        return _duplicate_result(ingestion, path, *ingestion.videos[sha256])
    problem = sidecar_problem(path) or video_probe.probe_error(path)
    if problem:
        return IngestResult(path, IngestOutcome.REJECTED, problem)
    matching = (glob for glob in ingestion.globs if fnmatchcase(path.name, glob.pattern))
    episode_glob = next(matching, None)
    if episode_glob is None:
        folder = _library_path(ingestion, ingestion.globs[0].folder)
        return IngestResult(
            path,
            IngestOutcome.REJECTED,
            f"its name matches no glob of show {ingestion.show}. Add a line to its episodes in "
            f"{ingestion.library.name}: - path: {folder}/*{path.suffix}",
        )
    target = episode_glob.folder / path.name
    if qualifier and os.path.lexists(target):
        target = target.with_name(f"{qualifier} {path.name}")
    if os.path.lexists(target):
        if not ingestion.rename:
            return IngestResult(
                path,
                IngestOutcome.REJECTED,
                f"{target.name} exists with other content: rename one, or use --rename",
            )
        target = target.with_name(f"{target.stem}-{sha256[:8]}{path.suffix}")
    return _transfer(ingestion, path, target, sha256)


def _duplicate_result(ingestion: _Ingestion, path: Path, existing: Path, show: str) -> IngestResult:
    if show != ingestion.show:
        detail = f"the same video is {existing.name} of show {show}"
        return IngestResult(path, IngestOutcome.REJECTED, detail, existing)
    in_place = existing == path
    detail = "is already in the library" if in_place else f"was added before as {existing.name}"
    return IngestResult(path, IngestOutcome.DUPLICATE, detail, existing)


def _transfer(ingestion: _Ingestion, path: Path, target: Path, sha256: str) -> IngestResult:
    """Transfer the sidecars and then the video, unless a sidecar exists with other content."""
    sidecars = [
        (sidecar, target.with_name(target.stem + suffixes))
        for sidecar, suffixes in find_sidecars(path)
    ]
    digests = {sidecar: ingestion.store.source_ref(sidecar).sha256 for sidecar, _ in sidecars}
    for sidecar, sidecar_target in sidecars:
        if sidecar_target.exists() and not has_content(sidecar_target, digests[sidecar]):
            return IngestResult(
                path,
                IngestOutcome.REJECTED,
                f"{sidecar_target.name} exists with other content than the sidecar {sidecar.name}",
            )
    if not ingestion.dry_run:
        # The video is last: once a glob matches it, all its sidecars are there.
        for sidecar, sidecar_target in sidecars:
            if not sidecar_target.exists():
                transfer_file(sidecar, sidecar_target, digests[sidecar], ingestion.mode)
        transfer_file(path, target, sha256, ingestion.mode)
    ingestion.videos[sha256] = (target, ingestion.show)
    detail = "" if target.name == path.name else f"as {target.name}"
    if sidecars:
        names = ", ".join(sidecar_target.name for _, sidecar_target in sidecars)
        detail = f"{detail} with {names}".strip()
    return IngestResult(path, IngestOutcome.ADDED, detail, target)


def _library_path(ingestion: _Ingestion, folder: Path) -> str:
    """Return the folder as a path in ``library.yaml``: relative to that file where possible."""
    base = ingestion.library.resolve().parent
    return (folder.relative_to(base) if folder.is_relative_to(base) else folder).as_posix()
