"""SAM2's video predictor as a segmentation backend (Ravi et al.: SAM 2, 2024; package sam2)."""
