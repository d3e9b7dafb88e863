"""Write trained weights in 8 bits, as miniature/weights holds them.

    python -m miniature.pack_weights STATE OUT

``STATE`` has what ``miniature.pretrain`` left: the judge, the VAE and the base. A matrix becomes
int8 with a scale for each row; the rest is bf16.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from miniature import checkpoints


def pack(state: Path, out: Path) -> None:
    """Write judge and VAE in 8 bits and the base, which is stored so already, to ``out``."""
    for name in ("judge", "vae", "base"):
        content = checkpoints.load(state, name)
        if name != "base":
            model = checkpoints.from_8_bits(content["model"])
            content["model"] = checkpoints.as_8_bits(model)
        checkpoints.save(out, name, content)


def main() -> None:
    """Pack the weights that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("state", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    pack(options.state, options.out)


if __name__ == "__main__":
    main()
