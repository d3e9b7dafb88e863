"""The library: shows with their characters and episodes, as declared in ``library.yaml``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from enum import StrEnum
from itertools import takewhile
from pathlib import Path

from pydantic import Field, ValidationError, field_validator, model_validator

from mimix_core.domain.character import Character, reject_control_characters
from mimix_core.domain.episode_files import ComposedNames, find_episode_files, find_file, is_glob
from mimix_core.domain.imported_clips import ImportedClip, read_imported_clips
from mimix_core.domain.language_codes import LANGUAGE_PATTERN
from mimix_core.domain.sidecar_index import (
    BOXES_ENDINGS,
    MASKS_ENDINGS,
    SCRIPT_ENDINGS,
    SidecarIndex,
)
from mimix_core.domain.subtitle_files import find_sidecar_subtitles
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.input_files import folder_exists
from mimix_core.engine.yaml_files import (
    LineNumbers,
    format_location,
    join_problems,
    read_yaml_file,
    validation_error,
)
from mimix_core.errors import BadInput


class Style(StrEnum):
    """Visual style of a show (paper, section 3.1); the tag reads ``[scene-style:<style>]``."""

    CARTOON = "cartoon"
    REALISTIC = "realistic"

    @property
    def opposite(self) -> Style:
        return Style.REALISTIC if self is Style.CARTOON else Style.CARTOON


# Ids of clips and composites go into file names of 255 bytes at most.
_MAX_ID_LENGTH = 40


class Episode(FrozenModel):
    """One video file, or a glob pattern of several, with its sidecar files."""

    path: Path = Field(description="A video file, or a glob pattern of video files.")
    subtitles: Path | None = Field(
        None,
        description="An .srt, .vtt or .ass file; if empty, a file next to the video with its name.",
    )
    script: Path | None = Field(
        None,
        description="Time-coded action script (YAML); if empty, a file next to the video with its "
        "name and .yaml or .script.yaml.",
    )
    boxes: Path | None = Field(
        None,
        description="Manually annotated character boxes (YAML); if empty, a file next to the video "
        "with its name and .boxes.yaml.",
    )
    masks: Path | None = Field(
        None,
        description="Masks of characters made elsewhere (a zip file of PNG images, for "
        "cutouts.backend masks); if empty, a file next to the video with its name and .masks.zip.",
    )
    plot: str = Field("", description="The episode's plot in a sentence or a paragraph.")

    @field_validator("plot", mode="after")
    @classmethod
    def _is_text(cls, value: str) -> str:
        reject_control_characters([value], allowed="\n\t")
        return value


class ClipEpisode(Episode):
    """A clip that was made elsewhere, which the pipeline takes like an episode of that length."""

    imported: ImportedClip


class Show(FrozenModel):
    """A series or a film: one style and one cast."""

    id: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$",
        max_length=_MAX_ID_LENGTH,
        description="Short name, used in ids.",
    )
    title: str = Field(min_length=1)
    style: Style
    language: str = Field(
        "",
        pattern=LANGUAGE_PATTERN,
        description="Language of its audio and subtitles, as a code such as en or de: which tracks "
        "of a file are used. Empty: the setting transcripts.language.",
    )
    characters: tuple[Character, ...] = ()
    guests: tuple[str, ...] = Field(
        (),
        description="Names of characters of other shows who appear in this one as well: a "
        "crossover. Its clips are trained on as they are; composites leave them out.",
    )
    episodes: tuple[Episode, ...] = ()
    clips: Path | None = Field(
        None, description="A folder of clips made elsewhere; `mimix dataset import` fills it."
    )

    @model_validator(mode="wrap")
    @classmethod
    def _has_footage(cls, value: object, handler: Callable[[object], Show]) -> Show:
        """Check what is written: with its patterns expanded, a show may wait for its videos."""
        show = handler(value)
        if isinstance(value, dict) and not (value.get("episodes") or value.get("clips")):
            raise ValueError("neither episodes nor clips: name at least one of them")
        return show

    @model_validator(mode="after")
    def _has_a_cast(self) -> Show:
        if not self.characters and not self.guests:
            raise ValueError(f"show {self.id}: name at least one of characters and guests")
        return self

    @field_validator("title", mode="after")
    @classmethod
    def _is_one_line(cls, value: str) -> str:
        reject_control_characters([value])
        return value

    def with_cast_of(self, file_name: str) -> Show:
        """Return the show with only the characters that can appear in an episode."""
        cast = tuple(c for c in self.characters if c.can_appear_in(file_name))
        return self if cast == self.characters else self.model_copy(update={"characters": cast})

    def with_cast(self, names: Collection[str]) -> Show:
        """Return the show with only the characters of these names; with all if there are none."""
        if not names:
            return self
        cast = tuple(c for c in self.characters if c.name in names)
        return self.model_copy(update={"characters": cast})

    def roster(self) -> tuple[str, ...]:
        """Return the names of all characters, as captions write them."""
        return tuple(character.name for character in self.characters)

    def aliases(self) -> dict[str, str]:
        """Map each alias to the name that captions write."""
        return {alias: c.name for c in self.characters for alias in c.aliases}


class Library(FrozenModel):
    """All shows. Names and aliases of characters are unique across shows: a name is an identity."""

    shows: tuple[Show, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique_names(self) -> Library:
        for show_id, count in Counter(show.id for show in self.shows).items():
            if count > 1:
                raise ValueError(f"two shows have the id {show_id!r}")
        owners: dict[str, str] = {}
        for show in self.shows:
            for character in show.characters:
                for name in (character.name, *character.aliases):
                    owner = f"{character.name} of {show.id}"
                    if name.casefold() in owners:
                        raise ValueError(
                            f"the name {name!r} belongs to both {owners[name.casefold()]} "
                            f"and {owner}"
                        )
                    owners[name.casefold()] = owner
        for show in self.shows:
            elsewhere = {
                c.name for other in self.shows if other.id != show.id for c in other.characters
            }
            for name in show.guests:
                if name not in elsewhere:
                    raise ValueError(
                        f"the guest {name!r} of {show.id} is no character of another show; write "
                        "the name as that show does"
                    )
        return self

    def get_show(self, show_id: str) -> Show:
        """Return the show with the given id, which must exist."""
        return next(show for show in self.shows if show.id == show_id)

    def with_guests(self, show: Show) -> Show:
        """Return the show with its guests among its characters, in all of its episodes."""
        if not show.guests:
            return show
        guests = tuple(
            character.model_copy(update={"episodes": ()})
            for other in self.shows
            for character in other.characters
            if character.name in show.guests
        )
        return show.model_copy(update={"characters": (*show.characters, *guests)})

    def characters(self) -> tuple[Character, ...]:
        """Return the characters of all shows, each once: a guest is one of its own show."""
        return tuple(character for show in self.shows for character in show.characters)


def load_library(path: Path, *, language: str = "") -> Library:
    """Load ``library.yaml`` with absolute paths and each glob pattern expanded to its files.

    A pattern that matches nothing in an existing folder is an error only if the library has no
    episode at all: a show may wait for its first one (``unmatched_patterns``).

    An episode without declared subtitles gets the best subtitle file that carries its name, with a
    preference for ``language``; its script, boxes and masks are found by name too. Raises
    BadInput with one message that lists every problem, each with its line and key.
    """
    library, lines = _read_library(path)
    return _resolve_paths(library, path.resolve().parent, path, lines, language)


def parse_library(path: Path) -> Library:
    """Read ``library.yaml`` without resolving paths or glob patterns. Raises BadInput."""
    return _read_library(path)[0]


def _read_library(path: Path) -> tuple[Library, LineNumbers]:
    document, lines = read_yaml_file(path)
    try:
        return Library.model_validate(document), lines
    except ValidationError as error:
        raise validation_error(path, error, lines) from error


def _resolve_paths(
    library: Library, base: Path, source: Path, lines: LineNumbers, language: str
) -> Library:
    """Make paths absolute, expand glob patterns and find subtitles. Raises BadInput."""
    problems: list[str] = []
    unmatched: list[str] = []
    names = ComposedNames()

    def require_file(path: Path, *key: str | int) -> Path:
        found = find_file(base, path, names)
        if found is None:
            problems.append(f"{format_location(source, lines, key)}: no file {base / path}")
        return found or base / path

    sidecars = SidecarIndex()
    shows = []
    for s, show in enumerate(library.shows):
        characters = tuple(
            character.model_copy(
                update={
                    name: tuple(
                        require_file(p, "shows", s, "characters", c, name, r)
                        for r, p in enumerate(getattr(character, name))
                    )
                    for name in ("references", "voices")
                }
            )
            for c, character in enumerate(show.characters)
        )
        episodes: list[Episode] = []
        for e, episode in enumerate(show.episodes):
            key = ("shows", s, "episodes", e)
            declared = {
                name: require_file(value, *key, name)
                for name in ("subtitles", "script", "boxes", "masks")
                if (value := getattr(episode, name)) is not None
            }
            videos = find_episode_files(base, episode.path, names)
            if not videos:
                location = format_location(source, lines, (*key, "path"))
                waits = is_glob(episode.path) and folder_exists(_glob_folder(base, episode.path))
                missing = unmatched if waits else problems
                missing.append(f"{location}: no file {base / episode.path}")
            for video in videos:
                preferred = show.language or language
                found = {
                    "subtitles": find_sidecar_subtitles(video, preferred, sidecars),
                    "script": sidecars.find_companion(video, SCRIPT_ENDINGS),
                    "boxes": sidecars.find_companion(video, BOXES_ENDINGS),
                    "masks": sidecars.find_companion(video, MASKS_ENDINGS),
                }
                update = {"path": video, **found, **declared}
                episodes.append(episode.model_copy(update=update))
        if show.clips is not None:
            episodes += _clip_episodes(base / show.clips, sidecars)
        counts = Counter(episode.path for episode in episodes)
        for video in sorted(path for path, count in counts.items() if count > 1):
            problems.append(f"{source}: show {show.id}: {video} is listed twice")
        shows.append(
            show.model_copy(update={"characters": characters, "episodes": tuple(episodes)})
        )
    if not any(show.episodes for show in shows):
        problems += unmatched
    if problems:
        message = join_problems(problems, len(problems))
        raise BadInput(message, fix="Correct the paths or put the files there.")
    return Library(shows=tuple(shows))


def _clip_episodes(folder: Path, sidecars: SidecarIndex) -> list[ClipEpisode]:
    """Return the clips that were imported into a folder, with their sidecars."""
    return [
        ClipEpisode(
            path=video,
            imported=clip,
            subtitles=find_sidecar_subtitles(video, "", sidecars),
            script=sidecars.find_companion(video, SCRIPT_ENDINGS),
            boxes=sidecars.find_companion(video, BOXES_ENDINGS),
            masks=sidecars.find_companion(video, MASKS_ENDINGS),
        )
        for clip in read_imported_clips(folder)
        for video in [folder / clip.file]
    ]


def declared_videos(path: Path) -> frozenset[Path]:
    """Return the absolute paths of videos that ``library.yaml`` lists without a glob pattern."""
    base = path.resolve().parent
    paths = (episode.path for show in parse_library(path).shows for episode in show.episodes)
    names = ComposedNames()
    return frozenset(
        find_file(base, video, names) or base / video for video in paths if not is_glob(video)
    )


def _glob_folder(base: Path, pattern: Path) -> Path:
    """Return the folder that a glob pattern starts from: its part before the first wildcard."""
    return base.joinpath(*takewhile(lambda part: not is_glob(Path(part)), pattern.parts[:-1]))


def unmatched_patterns(path: Path) -> list[str]:
    """Describe the glob patterns of ``library.yaml`` that match no file, by show."""
    base = path.resolve().parent
    return [
        f"show {show.id}: no file matches {episode.path}"
        for show in parse_library(path).shows
        for episode in show.episodes
        if is_glob(episode.path) and not find_episode_files(base, episode.path)
    ]
