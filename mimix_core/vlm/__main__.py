"""The courier process: see ``courier.py``."""

from mimix_core.vlm.request_worker import main

main()
