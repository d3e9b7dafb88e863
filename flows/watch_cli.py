"""``mimix watch``: announce each episode in the inbox as soon as it is completely copied."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from flows import prefect_environment
from flows.console import SettingsArgument, WorkspaceOption, console, load_settings, user_errors
from flows.deploy_cli import require_server_url
from mimix_core.inbox import find_pending
from mimix_core.inbox.notification_backoff import NotificationBackoff


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
    repeated at growing intervals, so that a lost event only costs time.
    """
    with user_errors():
        config = load_settings(settings, workspace)
        prefect_environment.configure_prefect()
        require_server_url("mimix watch")
        from tasks.events import emit_episode_arrived

        announcer = NotificationBackoff()
        while True:
            due = announcer.due(find_pending(config), time.monotonic())
            if due and emit_episode_arrived(due):
                announcer.mark_sent(due, time.monotonic())
                for file in due:
                    console.print(f"{file.show}: {file.path.name!r} is complete", highlight=False)
            elif due:
                console.print("The Prefect server does not respond; trying again.")
            if once:
                return
            time.sleep(every)
