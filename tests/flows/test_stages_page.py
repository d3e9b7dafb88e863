"""docs/stages.md is generated from the registry of stages."""

from __future__ import annotations

from typer.testing import CliRunner

from flows.cli import app
from mimix_core.diagnostics import model_requirements
from mimix_core.engine.registry import get_stage, pipeline_stages
from mimix_core.settings import Config
from tests.paths import ROOT

REAL_MODELS = {
    "library": "library.yaml",
    "scenes": {"detectors": ["transnetv2"]},
    "transcripts": {"asr_backend": "faster-whisper"},
    "cutouts": {"backend": "sam2"},
    "backbone": {"name": "wan2.1-t2v-14b"},
}


def test_the_page_of_stages_is_up_to_date() -> None:
    result = CliRunner().invoke(app, ["stages", "--markdown"])
    assert result.exit_code == 0, result.output
    page = ROOT / "docs" / "stages.md"
    assert page.read_text() == result.output, "run the command that the page names"


def test_the_table_lists_every_stage() -> None:
    result = CliRunner().invoke(app, ["stages"], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    for stage in pipeline_stages():
        assert stage.name in result.output
        assert stage.description in result.output


def test_models_are_required_by_the_phases_of_their_stages() -> None:
    """The functions are listed by phase without importing the stages; both must agree."""
    config = Config.model_validate(REAL_MODELS)
    for phase, functions in model_requirements._REQUIREMENTS.items():
        for list_requirements in functions:
            for requirement in list_requirements(config):
                assert get_stage(requirement.stage).phase is phase
