"""Segmentation backends that run on a CPU and work frame by frame in a region around the boxes."""
