"""A run can be started only a limited number of times."""

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
def test_a_run_that_is_started_too_often_fails(
    tmp_path: Path, attempts: int, error: type[Exception]
) -> None:
    """With one attempt less it continues to the library, which is missing here."""
    config = Config(library=tmp_path / "none.yaml", workspace=tmp_path)
    run = FlowRun(flow_id=uuid4(), run_count=attempts)
    with (
        FlowRunContext.model_construct(flow_run=run),
        pytest.raises(error),
        flow_session(config, "curate"),
    ):
        pass
