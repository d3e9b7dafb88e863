"""Task ``character_scores`` and the command: what they hand to the stage, and what they refuse."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from flows.cli import app
from mimix_core.benchmark.judge.judge_inputs import SystemVideos
from mimix_core.domain.caption_grammar import CharacterAction
from mimix_core.domain.character import Character
from mimix_core.domain.library import Library, Show, Style
from mimix_core.domain.prompts import VideoPrompt
from mimix_core.engine.store import Store
from mimix_core.project.workspace import Workspace
from mimix_core.settings import CharacterScoreSettings, Config
from mimix_core.tables import CLIPS, SAMPLES
from tasks.base import Run
from tasks.character_scores import build_character_score_inputs, score_characters_of_samples
from tasks.evaluation import LayoutSources
from tests.factories import table_ref

PROMPT = VideoPrompt(
    id="one",
    category="single",
    characters=("Dot",),
    actions=(CharacterAction(name="Dot", action="moves"),),
    setting="A room",
    style=Style.CARTOON,
)


def workspace(folder: Path, settings: CharacterScoreSettings) -> Workspace:
    shows = tuple(
        Show.model_construct(
            id=name.lower(),
            title=name,
            style=style,
            characters=(Character(name=name, description="a figure"),),
            episodes=(),
        )
        for name, style in (("Dot", Style.CARTOON), ("Bar", Style.REALISTIC))
    )
    config = Config(
        library=folder / "library.yaml", workspace=folder / "work", character_scores=settings
    )
    store = Store(folder / "work" / "store")
    return Workspace(config, Library.model_construct(shows=shows), store, ())


def test_each_character_has_the_style_of_its_show(tmp_path: Path) -> None:
    settings = CharacterScoreSettings(backend="efficientnet-lite0")
    clips = table_ref(tmp_path / "clips", CLIPS, [])
    system = SystemVideos(name="ours", videos={})
    inputs = build_character_score_inputs(
        workspace(tmp_path, settings), [PROMPT], system, [clips], []
    )
    assert inputs.styles == {"Dot": "cartoon", "Bar": "realistic"}
    assert inputs.unit == "ours"
    assert inputs.weights == ()


def test_without_a_backend_nothing_is_scored(tmp_path: Path) -> None:
    run = Run(workspace(tmp_path, CharacterScoreSettings()))
    samples = table_ref(tmp_path / "samples", SAMPLES, [])
    assert score_characters_of_samples(run, samples, LayoutSources([], [], samples)) is None


def test_the_command_asks_for_a_backend(tmp_path: Path) -> None:
    (tmp_path / "library.yaml").write_text("shows: []\n")
    settings = tmp_path / "mimix.yaml"
    settings.write_text("library: library.yaml\n")
    options = ["--system", f"ours={tmp_path}", "--prompts", "p.yaml", "--out", "o.parquet"]
    result = CliRunner().invoke(app, ["bench", "characters", str(settings), *options])
    assert result.exit_code == 2
    assert "character_scores.backend" in result.output
