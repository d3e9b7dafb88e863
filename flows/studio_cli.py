"""``mimix studio``: look at all results in the browser, and decide on them."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from flows.console import (
    SettingsArgument,
    WorkspaceOption,
    console,
    load_settings,
    print_line,
    user_errors,
)
from mimix_core.engine.child_environment import child_environment, forget_secrets
from mimix_core.errors import BadInput
from mimix_core.project.dataset_review import current_user
from mimix_core.settings import Config

DEFAULT_PORT = 8765
POLL_SECONDS = 3.0
"""Time between two looks whether a run has committed results."""

SETTLE_SECONDS = 20.0
"""Least time between two indexes while a run commits one result after another."""


def studio(
    settings: SettingsArgument,
    workspace: WorkspaceOption = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. Any other than 127.0.0.1 can be opened from other machines "
            "with the token that is printed."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")
    ] = DEFAULT_PORT,
    reviewer: Annotated[
        str, typer.Option(help="Who decides, unless the page says. Default: your user name.")
    ] = "",
    system: Annotated[
        list[str] | None,
        typer.Option(
            "--system",
            help="Compare with a system, NAME=FOLDER with its videos <prompt id>.mp4; repeatable.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Prompt file of the systems (YAML). Default: samples.prompts of the settings."
        ),
    ] = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(
            "--scores",
            help="Scores of a system as NAME=TABLE, written by `mimix bench vbench`; repeatable.",
        ),
    ] = None,
    judgements: Annotated[
        list[Path] | None,
        typer.Option(help="Table of ratings, written by `mimix bench judge`; repeatable."),
    ] = None,
) -> None:
    """Open a page to look at all results, to decide on them, and to compare videos."""
    with user_errors():
        config = load_settings(settings, workspace)
        # Its pages and previews need none, and each preview is made in a child of this process.
        environment = forget_secrets()
        listener = listen(host, port)
        from flows.studio_prefect import PrefectControl, find_server

        with console.status("Reading the results"), ThreadPoolExecutor(1) as side:
            found_server = side.submit(find_server, environment)
            # First what may be mistyped: an index of many clips takes a while.
            comparison = read_comparison(
                settings, workspace, system or [], prompts, scores or [], judgements or []
            )
            index = read_index(settings, workspace)
        from flows.studio_captions import CaptionChecker
        from mimix_core.studio.comparison_server import ComparisonWalls, add_comparison
        from mimix_core.studio.live_server import add_live
        from mimix_core.studio.preview_cache import PreviewCache
        from mimix_core.studio.server import create_app
        from mimix_core.studio.studio_session import StudioSession

        session = StudioSession(
            index,
            config.decisions,
            config.workspace / "store",
            check_caption=CaptionChecker(config.captions),
            reviewer=reviewer or current_user(),
        )
        token = None if is_local(host) else secrets.token_urlsafe(24)
        previews = PreviewCache(config.workspace)
        print_line(f"MiMix Studio: {escape(page_address(host, listener, token))}")
        print_line(f"Decisions are saved in {escape(str(config.decisions))}. Ctrl+C ends.")
        watcher = StoreWatcher(
            config,
            lambda: read_index(settings, workspace),
            session.open_index,
        )
        watcher.start()
        walls = ComparisonWalls(config.workspace, comparison)
        server = found_server.result()
        control = PrefectControl(server, config) if server.api else None
        pages = [
            partial(add_comparison, walls=walls, previews=previews),
            partial(add_live, workspace=config.workspace, control=control),
        ]
        try:
            serve_app(create_app(session, previews, token, pages), listener)
        finally:
            watcher.stop()
            previews.close()


def read_index(settings: Path, workspace: Path | None) -> Path:
    """Have the index of these settings written, if it is not there; return its path."""
    command = [sys.executable, "-m", "flows.studio_tables", str(settings)]
    if workspace is not None:
        command.append(str(workspace))
    done = subprocess.run(command, env=child_environment(), capture_output=True, check=False)
    if done.returncode != 0:
        message = done.stderr.decode(errors="replace").strip()
        raise BadInput(message.removeprefix("error ") or "the results cannot be read")
    return Path(json.loads(done.stdout.splitlines()[-1])["index"])


def read_comparison(
    settings: Path,
    workspace: Path | None,
    systems: Sequence[str],
    prompts: Path | None,
    scores: Sequence[str],
    judgements: Sequence[Path],
) -> Path | None:
    """Have the walls of these systems written; return the path of the file, None without any."""
    if not systems:
        if prompts or scores or judgements:
            raise BadInput(
                "no systems to compare",
                where="--prompts, --scores, --judgements",
                fix="Name each system with --system NAME=FOLDER.",
            )
        return None
    request = {
        "settings": str(settings),
        "workspace": None if workspace is None else str(workspace),
        "systems": list(systems),
        "prompts": None if prompts is None else str(prompts),
        "scores": list(scores),
        "judgements": [str(path) for path in judgements],
    }
    command = [sys.executable, "-m", "flows.studio_comparison"]
    done = subprocess.run(
        command,
        env=child_environment(),
        input=json.dumps(request).encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        message = done.stderr.decode(errors="replace").strip()
        raise BadInput(message.removeprefix("error ") or "the systems cannot be compared")
    return Path(done.stdout.decode().splitlines()[-1])


class StoreWatcher:
    """A thread that has the index written again after a run has committed results."""

    def __init__(
        self, config: Config, read: Callable[[], Path], show: Callable[[Path], object]
    ) -> None:
        self._store = config.workspace / "store"
        self._read, self._show = read, show
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="store-watcher", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; an index that is being written is not waited for."""
        self._stopped.set()

    def _watch(self) -> None:
        seen = self._state()
        while not self._stopped.wait(POLL_SECONDS):
            state = self._state()
            if state == seen:
                continue
            seen = state
            try:
                self._show(self._read())
            except BadInput as error:
                console.print(f"The page shows earlier results: {escape(str(error))}")
            self._stopped.wait(SETTLE_SECONDS)

    def _state(self) -> dict[str, int]:
        """Return when each stage has committed or discarded a result last."""
        try:
            return {
                entry.name: entry.stat().st_mtime_ns
                for entry in self._store.iterdir()
                if not entry.name.startswith(".")
            }
        except FileNotFoundError:
            return {}


def is_local(host: str) -> bool:
    """Return whether only this machine reaches that address."""
    return host in ("127.0.0.1", "localhost", "::1")


def page_address(host: str, listener: socket.socket, token: str | None) -> str:
    """Return the address to open the page with."""
    address = f"http://{_printable_host(host)}:{listener.getsockname()[1]}/"
    return address if token is None else f"{address}?token={token}"


def _printable_host(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def listen(host: str, port: int) -> socket.socket:
    """Open the port before anything else. Raises BadInput if that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers at once (TCP_NODELAY) only where the protocol is stated: otherwise
    # each waits 40 ms for the acknowledgement of its header.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Whoever opens the printed address at once waits, instead of being refused.
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise BadInput(
            f"cannot listen on {host}, port {port} ({getattr(error, 'strerror', error)})",
            fix="Choose another --port or --host; another studio may be running.",
        ) from error
    return listener


def serve_app(app: Any, listener: socket.socket) -> None:
    """Serve an application on an open port until Ctrl+C."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", lifespan="off", server_header=False, timeout_graceful_shutdown=2
    )
    uvicorn.Server(config).run(sockets=[listener])
