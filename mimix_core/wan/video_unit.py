"""Generate the videos of one unit: those that are missing, each a success or a failed prompt."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from mimix_core.engine import progress
from mimix_core.media.encode import EncodeFailed
from mimix_core.settings import SampleSettings
from mimix_core.wan import model_registry, tensor_shards
from mimix_core.wan.generation.component_folders import ComponentFolders
from mimix_core.wan.generation.partial_videos import PartialVideos
from mimix_core.wan.generation.provenance import VideoProvenance, write_video
from mimix_core.wan.videos_inputs import VideoInputs, adapter_files

if TYPE_CHECKING:
    import torch

    from mimix_core.wan.generation.video_generator import VideoGenerator
    from mimix_core.wan.generation.video_process import VideoProcess
    from mimix_core.wan.lora_formats import Adapter


@dataclass
class VideoUnit:
    """Generates the videos of one unit: finished and failed prompts, and timings."""

    inputs: VideoInputs
    settings: SampleSettings
    provenance: dict[str, VideoProvenance]
    layouts: Mapping[str, tensor_shards.TensorRef]
    partial_videos: PartialVideos
    done: dict[str, Path] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    runtime_stats: dict[str, str | int | float] = field(default_factory=dict)

    def load_finished(self) -> None:
        """Find the videos that an earlier attempt finished."""
        for prompt_id, provenance in self.provenance.items():
            path = self.partial_videos.get(provenance)
            if path is not None:
                self.done[prompt_id] = path
        self.runtime_stats["found"] = len(self.done)

    def generate(self, adapters: Sequence[Adapter | None]) -> None:
        """Generate the missing videos on one device."""
        from mimix_core.engine.gpu_lease import acquire_device

        self.report_progress(0, "waiting for a free device")
        with acquire_device(self.settings.device) as device:
            self.generate_on(device, adapters)
            # The pipeline and its hooks form a reference cycle, which holds GPU memory.
            gc.collect()

    def generate_on(
        self,
        device: torch.device,
        adapters: Sequence[Adapter | None],
        process: VideoProcess | None = None,
    ) -> None:
        """Generate the missing videos on ``device``; ``process``: of those that do so together.

        All of them take part in every video, and the first one decodes and stores it.
        """
        from mimix_core.engine.torch_runtime import set_num_threads
        from mimix_core.wan.generation import video_generator

        set_num_threads(self.settings.threads)
        missing = {
            prompt_id: provenance
            for prompt_id, provenance in self.provenance.items()
            if prompt_id not in self.done
        }
        started = time.monotonic()
        self.report_progress(0, "loading the model")
        generator = video_generator.load_generator(
            _component_folders(self.inputs),
            adapters[0],
            ", ".join(map(str, adapter_files(self.inputs))),
            sorted({provenance.prompt for provenance in missing.values()}),
            self.settings,
            device,
            adapters[1] if len(adapters) > 1 else None,
            process,
        )
        loaded = time.monotonic()
        for prompt_id, provenance in missing.items():
            self._generate_one(generator, prompt_id, provenance, process)
        self.runtime_stats |= {
            **generator.runtime_stats,
            **generator.count_passes(),
            "device": str(device),
            "generated": len(missing) - len(self.failed),
            "seconds_to_load": round(loaded - started, 3),
            "seconds_per_video": round((time.monotonic() - loaded) / len(missing), 3),
        }

    def _generate_one(
        self,
        generator: VideoGenerator,
        prompt_id: str,
        provenance: VideoProvenance,
        process: VideoProcess | None,
    ) -> None:
        import torch

        layout = self.layouts.get(prompt_id)
        # A process that gave up a video alone would leave the others waiting for it. The same
        # ValueError occurs in all of them.
        faults_of_prompt = ValueError if process is not None else (RuntimeError, ValueError)
        try:
            latents_BCTHW = generator.denoise(
                provenance.prompt,
                provenance.seed,
                lambda step: self.report_progress(step, prompt_id),
                None if layout is None else tensor_shards.read_latents(layout),
            )
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # a fault of the device, not of this prompt
        except faults_of_prompt as error:
            self.failed[prompt_id] = f"{type(error).__name__}: {error}"
            return
        if process is None or process.rank == 0:
            self._store(generator, prompt_id, provenance, latents_BCTHW)

    def _store(
        self,
        generator: VideoGenerator,
        prompt_id: str,
        provenance: VideoProvenance,
        latents_BCTHW: torch.Tensor,
    ) -> None:
        """Decode and store a video; one that cannot be is a failed row."""
        import torch

        try:
            frames_THWC = generator.decode(latents_BCTHW)
            self.done[prompt_id] = self.partial_videos.put(
                provenance,
                lambda path: write_video(
                    path, frames_THWC, Fraction(provenance.frame_rate), provenance.to_json()
                ),
            )
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except (RuntimeError, ValueError, EncodeFailed) as error:
            self.failed[prompt_id] = f"{type(error).__name__}: {error}"

    def report_progress(self, step: int, note: str) -> None:
        """Report the steps of finished videos and those of the present one."""
        steps = self.settings.num_inference_steps
        done = (len(self.done) + len(self.failed)) * steps + step
        progress.report_progress(done, len(self.provenance) * steps, note)


def _component_folders(inputs: VideoInputs) -> ComponentFolders:
    return ComponentFolders(
        backbone=model_registry.get_backbone(inputs.backbone_name),
        transformer=inputs.transformer.path,
        vae=inputs.vae.path,
        text_encoder=inputs.text_encoder.path,
        tokenizer=inputs.tokenizer.path,
        scheduler=inputs.scheduler.path,
        transformer_2=inputs.low_noise.transformer.path if inputs.low_noise else None,
    )
