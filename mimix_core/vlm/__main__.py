"""The courier process: see ``courier.py``."""

from mimix_core.vlm.courier import main

main()
