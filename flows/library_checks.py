"""Check a library for ``mimix doctor``: its files, references, locators, and a few frames."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from flows.locator_trial import (
    INSPECTABLE,
    show_frame_locator,
    trial_workspace,
)
from mimix_core.diagnostics.look_alikes import (
    ADVICE,
    alarming_pairs,
    describe_pair,
    load_library_bank,
)
from mimix_core.diagnostics.machine_check import MachineCheck, failed_check
from mimix_core.domain.library import Episode, Show
from mimix_core.errors import BadInput, MissingModel
from mimix_core.media import UnreadableVideo
from mimix_core.project.workspace import Workspace
from mimix_core.settings import Config
from mimix_core.settings.locator_settings import LOCATOR_PACKAGES
from mimix_core.stages.cutouts.locate.locate_preview import FrameInspector, inspect_episode
from mimix_core.stages.cutouts.locate.reference_bank import WANTED_REFERENCES, ReferenceDistances
from tasks.cutouts import show_locator

FRAMES_TRIED = 5
"""Frames of one episode per show on which a locator is tried."""


def check_library(config: Config) -> list[MachineCheck]:
    """Check the library, and for each show its references and its locator."""
    try:
        with trial_workspace(config) as workspace:
            return list(_checks(workspace))
    except BadInput as error:
        return [failed_check("library", error)]


def _checks(workspace: Workspace) -> Iterator[MachineCheck]:
    shows = workspace.library.shows
    episodes = sum(len(show.episodes) for show in shows)
    yield MachineCheck(
        name="library", state="ok", finding=f"{len(shows)} shows, {episodes} episodes"
    )
    for show in shows:
        yield _references(show)
        if show.guests:
            continue  # Composites leave a crossover out: nobody is located in it.
        yield _locator(workspace, show)
        if show_locator(workspace.config.cutouts, show) in INSPECTABLE:
            yield from _trial(workspace, show)
    yield from _look_alikes(workspace)


def _look_alikes(workspace: Workspace) -> Iterator[MachineCheck]:
    """Compare the characters of all shows; nothing to say for fewer than two with exemplars."""
    try:
        bank = load_library_bank(
            workspace.library, workspace.config.decisions, workspace.config.workspace
        )
    except MissingModel as error:
        yield MachineCheck(name="look-alikes", state="limited", finding=error.what, fix=error.fix)
        return
    except BadInput as error:
        yield failed_check("look-alikes", error)
        return
    if len(bank.vectors) < 2:
        return
    alarms = alarming_pairs(bank)
    if not alarms:
        finding = f"none of {len(bank.vectors)} characters is nearer to another than to itself"
        yield MachineCheck(name="look-alikes", state="ok", finding=finding)
        return
    yield MachineCheck(
        name="look-alikes",
        state="limited",
        finding="nearer to another than to itself: " + "; ".join(map(describe_pair, alarms)),
        fix=ADVICE,
    )


def _references(show: Show) -> MachineCheck:
    without = [c.name for c in show.characters if not c.references]
    few = [c.name for c in show.characters if 0 < len(c.references) < WANTED_REFERENCES]
    counts = ", ".join(f"{c.name} {len(c.references)}" for c in show.characters)
    advice = f"Give each character {WANTED_REFERENCES} or more images: other poses, other light."
    return MachineCheck(
        name=f"references of {show.id}",
        state="limited" if without or few else "ok",
        finding=counts,
        fix=advice if without or few else "",
    )


def _locator(workspace: Workspace, show: Show) -> MachineCheck:
    name = show_locator(workspace.config.cutouts, show)
    missing = sum(episode.boxes is None for episode in show.episodes)
    finding = f"{name}; {missing} of {len(show.episodes)} episodes have no boxes file"
    if name != "boxes" or not missing:
        return MachineCheck(name=f"locator of {show.id}", state="ok", finding=finding)
    return MachineCheck(
        name=f"locator of {show.id}",
        state="no" if missing == len(show.episodes) else "limited",
        finding=f"{finding}: no character is located in them, so nothing is cut out",
        fix=_locator_fix(show),
    )


def _locator_fix(show: Show) -> str:
    wanted = "face" if show.style.value == "realistic" else "embedding"
    installed = all(find_spec(package) is not None for package in LOCATOR_PACKAGES[wanted])
    setting = f"cutouts.locator_{show.style.value}"
    if not any(character.references for character in show.characters):
        return "Add reference images to the characters, or boxes files (docs/locating.md)."
    if not installed:
        extra = {"face": "faces", "embedding": "bench"}[wanted]
        return f"pip install 'mimix[{extra}]', so that {setting}: auto uses the references."
    return f"Set {setting} to auto or {wanted}: the show has reference images."


def _trial(workspace: Workspace, show: Show) -> Iterator[MachineCheck]:
    """Create the show's locator from its references and let it look at a few frames."""
    check = f"frames of {show.id}"
    try:
        locator = show_frame_locator(workspace, show)
        assert locator is not None
    except BadInput as error:
        finding = f"{error.what} ({error.where})" if error.where else error.what
        yield MachineCheck(name=check, state="no", finding=finding, fix=error.fix)
        return
    name = show_locator(workspace.config.cutouts, show)
    distances = locator.reference_distances()
    yield _thresholds(workspace, show, name, distances)
    episode = next((one for one in show.episodes if one.boxes is None), None)
    if episode is not None:
        try:
            yield _frames(workspace, episode, locator, check)
        except UnreadableVideo as error:
            yield MachineCheck(name=check, state="no", finding=f"{episode.path.name}: {error}")


def _thresholds(
    workspace: Workspace, show: Show, name: str, distances: ReferenceDistances
) -> MachineCheck:
    cutouts = workspace.config.cutouts
    value: float | None
    if name == "face":
        setting, value = "cutouts.face.max_distance", cutouts.face.max_distance
    else:
        setting, value = "cutouts.embedding.min_similarity", cutouts.embedding.min_similarity
    if value is None:
        return MachineCheck(
            name=f"thresholds of {show.id}",
            state="ok",
            finding=f"{distances.describe()}; {setting} is calibrated from the exemplars "
            "(mimix characters show)",
        )
    proposed = distances.proposed_threshold()
    text = f"{distances.describe()}; {setting} is {value:g}"
    if proposed is not None:
        text += f", these references propose {proposed:g}"
    overlap = bool(distances.within and distances.between) and proposed is None
    return MachineCheck(
        name=f"thresholds of {show.id}",
        state="limited" if overlap else "ok",
        finding=text,
        fix="Some images of different characters are as close as those of one: choose clearer "
        "images."
        if overlap
        else "",
    )


def _frames(
    workspace: Workspace, episode: Episode, locator: FrameInspector, check: str
) -> MachineCheck:
    frames = inspect_episode(episode.path, locator, FRAMES_TRIED, workspace.config.clips.height)
    matches = [match for frame in frames for match in frame.matches]
    accepted = [match for match in matches if not match.problem]
    names = sorted({match.character for match in accepted})
    finding = f"{episode.path.name}: {len(accepted)} of {len(matches)} boxes accepted"
    if names:
        finding += f" in {len(frames)} frames ({', '.join(names)})"
    elif matches:
        nearest = matches[0]
        finding += f", for example {nearest.character} {nearest.shown}: {nearest.problem}"
    return MachineCheck(
        name=check,
        state="ok" if accepted else "limited",
        finding=finding,
        fix="" if accepted else "Look at them: mimix locate preview SETTINGS",
    )
