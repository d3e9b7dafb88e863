"""How to get the weights of WeSpeaker, apart from the code that needs its packages."""

WESPEAKER_DOWNLOAD = (
    "Download voxceleb_resnet34_LM.onnx of "
    "https://huggingface.co/Wespeaker/wespeaker-voxceleb-resnet34-LM and set voices.weights to it "
    "(docs/voices.md)."
)
