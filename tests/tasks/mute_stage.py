"""The obedient stage without an answer for a unit whose process died."""

from dataclasses import replace

from tests.tasks import obedient_stage

STAGE = replace(obedient_stage.STAGE, name="tests.tasks.mute_stage", broken=None)
