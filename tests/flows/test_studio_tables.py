"""The index of the studio is written from a project, whatever of it has run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.studio_tables import main
from mimix_core.characters.proposals import ProposedTrack, save_proposals
from mimix_core.studio.item_index import ItemIndex
from mimix_core.studio.track_items import proposals_folder
from mimix_core.tables import Reason
from tests.flows.small_project import Project


def test_the_index_of_a_project_that_never_ran_has_its_words_and_its_tracks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = Project(tmp_path)
    project.add_show("toons", "cartoon", "Tom", acts=True, seed=1)
    folder = proposals_folder(tmp_path / "workspace")
    folder.mkdir(parents=True)
    track = ProposedTrack(
        show="toons",
        track_id="toons-toons-1000-tom",
        group=1,
        guess="Tom",
        similarity=0.4,
        problem="at least 0.45 wanted",
        crops=("a-0.png",),
        picture="a.jpg",
    )
    save_proposals(folder, [track])
    main([str(project.settings)])
    index = ItemIndex(Path(json.loads(capsys.readouterr().out)["index"]))
    assert set(index.meta["reasons"]) == {reason.value for reason in Reason}
    assert index.meta["sources"] == {"toons": str(tmp_path / "toons.mp4")}
    assert index.meta["casts"]["toons"]["roster"] == ["Tom"]
    assert index.ids(list(range(1))) == ["toons/toons-toons-1000-tom"]
