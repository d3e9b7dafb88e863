"""``mimix watch``: announce each episode in the inbox as soon as it is completely copied."""

from __future__ import annotations

import threading
import time
from typing import Annotated

import typer
from rich.markup import escape

from flows import prefect_environment
from flows.console import SettingsArgument, WorkspaceOption, console, load_settings, user_errors
from flows.deploy_cli import require_server_url
from mimix_core.errors import MimixError, Transient
from mimix_core.inbox import find_pending
from mimix_core.inbox.notification_backoff import NotificationBackoff
from mimix_core.settings import Config


def watch(
    settings: SettingsArgument,
    workspace: WorkspaceOption = None,
    every: Annotated[
        float, typer.Option(min=1, help="Seconds between two checks of the inbox.")
    ] = 10,
    once: Annotated[bool, typer.Option("--once", help="Check the inbox once and exit.")] = False,
) -> None:
    """Watch the inbox and notify the Prefect server of each completely copied episode.

    The deployment `inbox` then ingests it. While an episode stays in the inbox the event is
    repeated at growing intervals, so that a lost event only costs time. As `mimix worker` does,
    it also schedules runs again that were killed.
    """
    with user_errors():
        config = load_settings(settings, workspace)
        prefect_environment.configure_prefect()
        require_server_url("mimix watch")
        announcer = NotificationBackoff()
        problem = _announce(config, announcer)
        if problem is not None and (once or config.inbox is None):
            raise problem
        last_message = ""
        if not once:
            from flows.stranded_runs import sweep_in_background

            sweep_in_background(threading.Event())
        while not once:
            message = "" if problem is None else str(problem)
            if message and message != last_message:
                console.print(
                    f"{escape(message)} Looking again every {every:g} s.",
                    highlight=False,
                    soft_wrap=True,
                )
            last_message = message
            time.sleep(every)
            problem = _announce(config, announcer)


def _announce(config: Config, announcer: NotificationBackoff) -> MimixError | None:
    """Announce the files that are due; return the problem that prevented it, if any.

    A problem may pass: library.yaml is being saved, the disk of the inbox is not mounted, the
    server is being restarted.
    """
    from tasks.events import emit_episode_arrived

    try:
        due = announcer.due(find_pending(config), time.monotonic())
    except MimixError as error:
        return error
    except OSError as error:
        return Transient(f"the inbox or the library cannot be read: {error}.")
    if not due:
        return None
    if not emit_episode_arrived(due, config.inbox):
        return Transient("The Prefect server does not respond.")
    announcer.mark_sent(due, time.monotonic())
    for file in due:
        name = escape(str(file.path.relative_to(config.inbox or file.path.anchor)))
        console.print(f"{file.show}: {name} is complete", highlight=False, soft_wrap=True)
    return None
