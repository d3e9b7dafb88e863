"""Import clips made elsewhere into the folder of a show's ``clips``, each only once.

Nothing is judged here that the pipeline judges: a clip that is too short, too small, damaged or a
duplicate gets a row with the reason in the run's tables, like footage of an episode. What cannot
get that far is refused with a reason, in ``refused.jsonl`` beside the clips too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mimix_core.domain.character_names import alias_map, slugify
from mimix_core.domain.imported_clips import CLIPS_FILE, ImportedClip, read_imported_clips
from mimix_core.domain.library import Library, Show, parse_library
from mimix_core.engine.artifacts import digest_file
from mimix_core.engine.jsonl_log import JsonlLog
from mimix_core.engine.text_escaping import printable_text
from mimix_core.errors import BadInput
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
    find_sidecars,
    rejection_reason,
    sidecar_problem,
)
from mimix_core.inbox.clip_sources import ClipSource

REFUSED_FILE = "refused.jsonl"
_NAME_CHARACTERS = 60


@dataclass(frozen=True)
class ClipDefaults:
    """What applies to clips whose source does not say it."""

    show: str = ""
    characters: tuple[str, ...] = ()
    group: str = ""


def import_clips(
    library_path: Path,
    sources: Sequence[ClipSource],
    defaults: ClipDefaults,
    *,
    mode: TransferMode = TransferMode.COPY,
    on_result: Callable[[IngestResult], None] = lambda result: None,
) -> list[IngestResult]:
    """Import clips, and return the outcome of each in order.

    A clip that is there already is not transferred again; its caption, characters and group are
    updated if they differ, by another line. Raises BadInput when no show has a ``clips`` folder.
    """
    library = parse_library(library_path)
    base = library_path.resolve().parent
    folders = {show.id: base / show.clips for show in library.shows if show.clips is not None}
    if not folders:
        example = defaults.show or library.shows[0].id
        raise BadInput(
            "no show has a folder for clips made elsewhere",
            where=str(library_path),
            fix=f"Add a line to the show {example}: clips: clips/{example}",
        )
    results = []
    with ExitStack() as stack:
        for folder in sorted(set(folders.values())):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(folder_lock(folder))
        state = _ImportState(library, library_path, folders, mode, stack)
        for source in sources:
            results.append(state.import_one(source, defaults))
            on_result(results[-1])
    return results


class _ImportState:
    """The state of one import, with the folders of all shows locked."""

    def __init__(
        self,
        library: Library,
        library_path: Path,
        folders: dict[str, Path],
        mode: TransferMode,
        stack: ExitStack,
    ) -> None:
        self._shows = {show.id: show for show in library.shows}
        self._library_path, self._folders, self._mode = library_path, folders, mode
        self._stack = stack
        self._logs: dict[Path, JsonlLog] = {}
        self._known = {
            clip.sha256: (show, clip)
            for show, folder in folders.items()
            for clip in read_imported_clips(folder)
        }

    def import_one(self, source: ClipSource, defaults: ClipDefaults) -> IngestResult:
        try:
            return self._import(source, defaults)
        except SourceChanged:
            result = IngestResult(
                source.path, IngestOutcome.INCOMPLETE, "changed while it was read"
            )
        except OSError as error:
            result = IngestResult(
                source.path, IngestOutcome.REJECTED, f"cannot be read ({error.strerror or error})"
            )
        self._log_refusal(result, defaults)
        return result

    def _import(self, source: ClipSource, defaults: ClipDefaults) -> IngestResult:
        show_id = source.show or defaults.show
        problem = (
            source.problem
            or rejection_reason(source.path)
            or sidecar_problem(source.path)
            or self._show_problem(show_id)
        )
        if not problem:
            show = self._shows[show_id]
            roster = {*show.roster(), *show.guests}
            names = alias_map(tuple(roster), show.aliases())
            asked = source.characters or defaults.characters
            unknown = [name for name in asked if name.casefold() not in names]
            if unknown:
                problem = (
                    f"no character of {show_id} is named {', '.join(map(repr, unknown))}; there "
                    f"are {', '.join(sorted(roster))}"
                )
        if problem:
            result = IngestResult(source.path, IngestOutcome.REJECTED, problem)
            self._log_refusal(result, defaults)
            return result
        characters = tuple(dict.fromkeys(names[name.casefold()] for name in asked))
        return self._add(source, show, characters, source.group or defaults.group)

    def _show_problem(self, show: str) -> str:
        if not show:
            return "belongs to no show: use --show, or a column show"
        if show not in self._shows:
            return f"there is no show {show!r}; the shows are {', '.join(self._shows)}"
        if show not in self._folders:
            return (
                f"show {show} has no folder for clips; add to it in {self._library_path.name}: "
                f"clips: clips/{show}"
            )
        return ""

    def _add(
        self, source: ClipSource, show: Show, characters: tuple[str, ...], group: str
    ) -> IngestResult:
        sha256 = digest_file(source.path)
        if source.path.stat().st_size == 0:
            result = IngestResult(source.path, IngestOutcome.REJECTED, "is empty")
            self._log_refusal(result, ClipDefaults(show=show.id))
            return result
        folder = self._folders[show.id]
        stem = slugify(source.path.stem)[:_NAME_CHARACTERS].strip("-")
        known_show, known = self._known.get(sha256, (show.id, None))
        if known_show != show.id:
            result = IngestResult(
                source.path, IngestOutcome.REJECTED, f"is a clip of show {known_show} already"
            )
            self._log_refusal(result, ClipDefaults(show=show.id))
            return result
        file = known.file if known else f"{stem}-{sha256[:10]}{source.path.suffix.lower()}"
        clip = ImportedClip(
            file=file,
            sha256=sha256,
            name=printable_text(source.path.name, allowed=""),
            caption=source.caption,
            characters=characters,
            group=group,
        )
        target = folder / file
        if known is not None and has_content(target, sha256):
            renewed = known.model_copy(update={"name": clip.name}) != clip
            if renewed:
                self._append(folder, clip, show.id)
            detail = "its caption, characters or group are renewed" if renewed else "is there"
            return IngestResult(source.path, IngestOutcome.DUPLICATE, detail, target)
        self._transfer(source.path, target, sha256)
        self._append(folder, clip, show.id)
        return IngestResult(source.path, IngestOutcome.ADDED, f"as {file}", target)

    def _transfer(self, source: Path, target: Path, sha256: str) -> None:
        """Transfer sidecars, then the video; what an interrupted import brought stays."""
        for sidecar, suffixes in find_sidecars(source):
            sidecar_target = target.with_name(target.stem + suffixes)
            if not sidecar_target.exists():
                transfer_file(sidecar, sidecar_target, digest_file(sidecar), self._mode)
        if target.exists() and not has_content(target, sha256):
            target.unlink()  # named by this content, and damaged since
        if not target.exists():
            transfer_file(source, target, sha256, self._mode)

    def _append(self, folder: Path, clip: ImportedClip, show: str) -> None:
        self._log(folder / CLIPS_FILE).append(clip.model_dump(mode="json"))
        self._known[clip.sha256] = (show, clip)

    def _log_refusal(self, result: IngestResult, defaults: ClipDefaults) -> None:
        """Record a refused clip in the folder of its show, or else of the first one."""
        folder = self._folders.get(defaults.show) or next(iter(self._folders.values()))
        self._log(folder / REFUSED_FILE).append(
            {
                "source": printable_text(str(result.path), allowed=""),
                "outcome": result.outcome.value,
                "reason": printable_text(result.detail),
            }
        )

    def _log(self, path: Path) -> JsonlLog:
        if path not in self._logs:
            self._logs[path] = JsonlLog.resume(path)
            self._stack.callback(self._logs[path].close)
        return self._logs[path]
