"""A run that is started again and again ends at last."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from flows.session import MAX_ATTEMPTS, flow_session
from mimix_core.errors import BadInput, StageFailed
from mimix_core.settings import Config


@pytest.mark.parametrize(
    ("attempts", "error"), [(MAX_ATTEMPTS, BadInput), (MAX_ATTEMPTS + 1, StageFailed)]
)
def test_a_run_that_never_comes_to_its_end_fails_for_good(
    tmp_path: Path, attempts: int, error: type[Exception]
) -> None:
    """One attempt less, and it goes on to what it works on, which is not there here."""
    config = Config(library=tmp_path / "none.yaml", workspace=tmp_path)
    run = FlowRun(flow_id=uuid4(), run_count=attempts)
    with (
        FlowRunContext.model_construct(flow_run=run),
        pytest.raises(error),
        flow_session(config, "curate"),
    ):
        pass
