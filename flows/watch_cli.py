"""``mimix watch``: say that an episode is whole as soon as it is; nobody waits for the clock."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from flows import prefect_environment
from flows.console import SettingsArgument, WorkspaceOption, console, load_settings, user_errors
from flows.deploy_cli import require_server_url
from mimix_core.inbox import pending
from mimix_core.inbox.notification_backoff import Announcer


def watch(
    settings: SettingsArgument,
    workspace: WorkspaceOption = None,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 10,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
) -> None:
    """Watch the inbox; tell the Prefect server of each episode that is there as a whole.

    The deployment `inbox` then takes it in. An episode that stays is told of again, less and less
    often: an event that was lost only costs time.
    """
    with user_errors():
        config = load_settings(settings, workspace)
        prefect_environment.configure_prefect()
        require_server_url("mimix watch")
        from tasks.events import emit_episode_arrived

        announcer = Announcer()
        while True:
            due = announcer.due(pending(config), time.monotonic())
            if due and emit_episode_arrived(due):
                announcer.told(due, time.monotonic())
                for one in due:
                    console.print(f"{one.show}: {one.path.name!r} is whole", highlight=False)
            elif due:
                console.print("The Prefect server does not answer; trying again.")
            if once:
                return
            time.sleep(every)
