"""The backbone ``miniature-wan`` as MiMix takes it: ``backbone.name: miniature.miniature_wan``.

diffusers' classes of Wan at small size, trained from nothing on a drawn world
(docs/miniature.md). It is never called Wan: only its classes, its objective and its VAE's layout
are Wan's.
"""

from mimix_core.wan.model_registry import Backbone, NetworkSpec
from miniature.sizes import FLOW_SHIFT, VAE_STRIDE, Sizes

_SIZES = Sizes()

BACKBONE = Backbone(
    name="miniature.miniature_wan",
    hub_id=None,
    transformer=NetworkSpec("WanTransformer3DModel", _SIZES.transformer_config()),
    vae=NetworkSpec("AutoencoderKLWan", _SIZES.vae_config()),
    text_encoder=NetworkSpec("MiniatureTextEncoder", {"width": _SIZES.text_width}),
    vae_stride=VAE_STRIDE,
    flow_shift=FLOW_SHIFT,
    lora_targets=("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"),
    interface_module="miniature.backbone_interface",
    pipeline_class="WanPipeline",
    make_command="python -m miniature.unpack_weights FOLDER",
)
