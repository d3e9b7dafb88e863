"""Entries of LTX-Video, whose architecture is not Wan's.

Sizes are those of the published folder's configs, which are the same for versions 0.9.5 and later
of 2B. docs/decisions/0042-another-family.md has the licence's terms.
"""

from __future__ import annotations

from dataclasses import replace

from mimix_core.wan.backbone import Backbone, NetworkSpec

TEXT_TOKENS = 256
"""Tokens that texts are padded or truncated to (diffusers' ``LTXConditionPipeline``)."""

_VAE = {
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "spatio_temporal_scaling": (True,) * 4,
    "decoder_spatio_temporal_scaling": (True,) * 3,
    "upsample_factor": (2, 2, 2),
    "upsample_residual": (True,) * 3,
    "decoder_inject_noise": (False,) * 4,
    "timestep_conditioning": True,
    "patch_size": 4,
    "patch_size_t": 1,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}

LTX_VIDEO = Backbone(
    name="ltx-video-0.9.5",
    hub_id="Lightricks/LTX-Video-0.9.5",
    transformer=NetworkSpec(
        "LTXVideoTransformer3DModel",
        {
            "num_layers": 28,
            "num_attention_heads": 32,
            "attention_head_dim": 64,
            "cross_attention_dim": 2048,
            "in_channels": 128,
            "out_channels": 128,
            "patch_size": 1,
            "patch_size_t": 1,
            "caption_channels": 4096,
        },
    ),
    vae=NetworkSpec(
        "AutoencoderKLLTXVideo",
        {
            "latent_channels": 128,
            "block_out_channels": (128, 256, 512, 1024, 2048),
            "layers_per_block": (4, 6, 6, 2, 2),
            "decoder_block_out_channels": (256, 512, 1024),
            "decoder_layers_per_block": (5, 5, 5, 5),
            **_VAE,
        },
    ),
    text_encoder=NetworkSpec(
        "T5EncoderModel",
        {
            "vocab_size": 32128,
            "d_model": 4096,
            "d_kv": 64,
            "d_ff": 10240,
            "num_layers": 24,
            "num_heads": 64,
            "feed_forward_proj": "gated-gelu",
        },
    ),
    vae_stride=(8, 32, 32),
    # Its noise levels are not shifted: they are spaced unevenly instead (``ltx_interface``).
    flow_shift=1.0,
    lora_targets=("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"),
    interface_module="mimix_core.wan.ltx_interface",
    pipeline_class="LTXConditionPipeline",
    other_pipelines=("LTXPipeline",),
    # Positions are in seconds, so that the model is told the rate of each video.
    frame_rate=None,
    scheduler=NetworkSpec(
        "FlowMatchEulerDiscreteScheduler",
        {"num_train_timesteps": 1000, "use_dynamic_shifting": False},
    ),
    text_tokens=TEXT_TOKENS,
)

TINY_LTX = replace(
    LTX_VIDEO,
    name="tiny-random-ltx",
    hub_id=None,
    transformer=NetworkSpec(
        "LTXVideoTransformer3DModel",
        {
            "num_layers": 2,
            "num_attention_heads": 4,
            "attention_head_dim": 12,
            "cross_attention_dim": 48,
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": 1,
            "patch_size_t": 1,
            "caption_channels": 32,
        },
    ),
    vae=NetworkSpec(
        "AutoencoderKLLTXVideo",
        {
            "latent_channels": 16,
            "block_out_channels": (8, 16, 32, 64, 128),
            "layers_per_block": (1, 1, 1, 1, 1),
            "decoder_block_out_channels": (16, 32, 64),
            "decoder_layers_per_block": (1, 1, 1, 1),
            **_VAE,
        },
    ),
    text_encoder=NetworkSpec(
        "T5EncoderModel",
        {
            "vocab_size": 512,
            "d_model": 32,
            "d_kv": 16,
            "d_ff": 64,
            "num_layers": 2,
            "num_heads": 2,
            "feed_forward_proj": "gated-gelu",
        },
    ),
)
"""The same classes with a few hundred thousand random weights."""
