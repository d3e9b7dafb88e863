"""The fake stage without ``failed_rows``."""

from dataclasses import replace

from tests.tasks import fake_stage

STAGE = replace(
    fake_stage.STAGE, name="tests.tasks.fake_stage_without_failed_rows", failed_rows=None
)
