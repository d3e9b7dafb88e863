"""``ingest``: each file that comes in is taken, known, busy or refused, and says why."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from mimix_core.domain.library import Library, episode_files, is_glob, stated
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.inbox import video_probe
from mimix_core.inbox.atomic_copy import Changed, How, alone, place, same
from mimix_core.inbox.candidates import Arrival, Outcome, busy, candidates, sidecars, unfit
from mimix_core.settings import Config

SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class _Shelf:
    """A folder whose files of fitting names are episodes of the show."""

    folder: Path
    names: str


@dataclass
class _Inbox:
    """One call. ``known``: digest of each episode of the library -> its file and show."""

    library: Path
    show: str
    shelves: list[_Shelf]
    known: dict[str, tuple[Path, str]]
    store: Store
    how: How
    rename: bool
    dry_run: bool


def ingest(
    config: Config,
    show: str,
    sources: Iterable[str | Path],
    *,
    how: How = How.COPY,
    rename: bool = False,
    dry_run: bool = False,
    settle_seconds: float = SETTLE_SECONDS,
    hear: Callable[[Arrival], None] = lambda arrival: None,
) -> list[Arrival]:
    """Bring new episodes of a show into the folder where its glob in ``library.yaml`` looks.

    Gives what became of each file, and tells ``hear`` as it goes. Nothing there is replaced;
    ``rename`` gives a file whose name is taken by other content a new one. A call waits for another
    one that works on the same folder. Raises BadInput when the show is unknown or has no glob.
    """
    library = stated(config.library)
    base = config.library.resolve().parent
    shelves = _shelves(library, show, base, config.library)
    paths, arrivals = candidates(sources)
    for arrival in arrivals:
        hear(arrival)
    fit = []
    for path in paths:
        reason = unfit(path)
        if reason:
            arrivals.append(Arrival(path, Outcome.REFUSED, reason))
            hear(arrivals[-1])
        else:
            fit.append(path)
    unsettled = busy(fit, settle_seconds)
    store = Store(config.workspace / "store")
    with ExitStack() as locks:
        if not dry_run:
            for folder in sorted({shelf.folder for shelf in shelves}):
                folder.mkdir(parents=True, exist_ok=True)
                locks.enter_context(alone(folder))
        inbox = _Inbox(
            library=config.library,
            show=show,
            shelves=shelves,
            known=known_videos(library, base, store),
            store=store,
            how=how,
            rename=rename,
            dry_run=dry_run,
        )
        for path in fit:
            if path in unsettled:
                arrivals.append(Arrival(path, Outcome.BUSY, "is still being written: try later"))
            else:
                arrivals.append(_arrive(inbox, path))
            hear(arrivals[-1])
    return arrivals


def _shelves(library: Library, show: str, base: Path, source: Path) -> list[_Shelf]:
    """The folders and name patterns of the show's globs. Raises BadInput when there is none."""
    known = [one.id for one in library.shows]
    if show not in known:
        raise BadInput(
            f"no show {show!r}", where=str(source), fix=f"There are: {', '.join(known)}."
        )
    shelves = []
    for episode in library.show(show).episodes:
        parts = [part for part in episode.path.parts if part != "**"]
        if is_glob(episode.path) and not is_glob(Path(*parts[:-1])):
            shelves.append(_Shelf(base / Path(*parts[:-1]), parts[-1]))
    if not shelves:
        raise BadInput(
            f"show {show} names its episodes one by one, so a new file would be none of them",
            where=str(source),
            fix=f"Add a line to its episodes: - path: episodes/{show}/*.mp4",
        )
    return shelves


def known_videos(library: Library, base: Path, store: Store) -> dict[str, tuple[Path, str]]:
    """By digest, each video that the library has: its file, and the show it is an episode of."""
    known: dict[str, tuple[Path, str]] = {}
    for show in library.shows:
        for episode in show.episodes:
            for path in episode_files(base, episode.path):
                if not unfit(path):
                    known.setdefault(store.source(path).sha256, (path, show.id))
    return known


def _arrive(inbox: _Inbox, path: Path) -> Arrival:
    try:
        return _judged(inbox, path)
    except Changed:
        return Arrival(path, Outcome.BUSY, "changed while it was copied: try later")
    except OSError as error:
        return Arrival(path, Outcome.REFUSED, f"{error.strerror or error}")


def _judged(inbox: _Inbox, path: Path) -> Arrival:
    sha256 = inbox.store.source(path).sha256
    if sha256 in inbox.known:
        there, show = inbox.known[sha256]
        if show != inbox.show:
            detail = f"the same video is {there.name} of show {show}"
            return Arrival(path, Outcome.REFUSED, detail, there)
        detail = "is in its place already" if there == path else f"came before as {there.name}"
        return Arrival(path, Outcome.KNOWN, detail, there)
    problem = video_probe.problem(path)
    if problem:
        return Arrival(path, Outcome.REFUSED, problem)
    shelf = next((s for s in inbox.shelves if fnmatchcase(path.name, s.names)), None)
    if shelf is None:
        folder = _as_stated(inbox, inbox.shelves[0].folder)
        return Arrival(
            path,
            Outcome.REFUSED,
            f"no glob of show {inbox.show} fits its name. Add a line to its episodes in "
            f"{inbox.library.name}: - path: {folder}/*{path.suffix}",
        )
    target = shelf.folder / path.name
    if target.exists() or target.is_symlink():
        if not inbox.rename:
            return Arrival(
                path,
                Outcome.REFUSED,
                f"{target.name} is there with other content: rename one, or give --rename",
            )
        target = target.with_name(f"{path.stem}-{sha256[:8]}{path.suffix}")
    beside = [(file, target.with_name(target.stem + rest)) for file, rest in sidecars(path)]
    digests = {file: inbox.store.source(file).sha256 for file, _ in beside}
    for file, place_of in beside:
        if place_of.exists() and not same(place_of, digests[file]):
            return Arrival(
                path,
                Outcome.REFUSED,
                f"{place_of.name} is there with other content than {file.name} beside the video",
            )
    if not inbox.dry_run:
        # The video last: once a glob finds it, all that belongs to it is there.
        for file, place_of in beside:
            if not place_of.exists():
                place(file, place_of, digests[file], inbox.how)
        place(path, target, sha256, inbox.how)
    inbox.known[sha256] = (target, inbox.show)
    detail = "" if target.name == path.name else f"as {target.name}"
    if beside:
        detail = f"{detail} with {', '.join(place_of.name for _, place_of in beside)}".strip()
    return Arrival(path, Outcome.TAKEN, detail, target)


def _as_stated(inbox: _Inbox, folder: Path) -> str:
    """The folder as ``library.yaml`` would write it."""
    base = inbox.library.resolve().parent
    return (folder.relative_to(base) if folder.is_relative_to(base) else folder).as_posix()
