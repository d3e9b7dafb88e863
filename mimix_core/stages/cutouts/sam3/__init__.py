"""SAM 3 (Carion et al., 2025) through transformers: figures by their nouns, and masks in boxes."""
