"""The networks of VBench's dimensions; tensors are named as in upstream's weights files."""
