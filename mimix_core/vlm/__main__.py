"""Entry point of the request worker; see ``request_worker.py``."""

from mimix_core.vlm.request_worker import main

main()
