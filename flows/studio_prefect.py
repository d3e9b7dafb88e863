"""Start and cancel a project's runs for the studio, through the API of a Prefect server.

The studio's server talks plain HTTP and does not import Prefect, which would triple its memory.
``python -m flows.studio_prefect`` prints where the server is, from Prefect's own settings.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.errors import BadInput
from mimix_core.settings import Config
from mimix_core.studio.live_server import ServerRun, ServerState

REQUEST_SECONDS = 30.0
MAX_RUNS = 20
STATE_SECONDS = 2.0
"""An answer of the server is used for this long, by all open pages together."""

_ENDED = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED", "CANCELLING"})
_TAG = "mimix"


class ServerAddress(FrozenModel):
    """Where Prefect's server is. ``api`` is empty if none is configured."""

    api: str
    page: str = ""
    auth: str = ""
    key: str = ""


def find_server(environment: Mapping[str, str]) -> ServerAddress:
    """Ask Prefect, in a process of its own with this environment, which server is set."""
    command = [sys.executable, "-m", "flows.studio_prefect"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    if done.returncode != 0:
        return ServerAddress(api="")
    return ServerAddress.model_validate_json(done.stdout.splitlines()[-1])


class PrefectControl:
    """The runs of one library and workspace on a Prefect server."""

    def __init__(self, server: ServerAddress, config: Config) -> None:
        self._server = server
        self._owner = (str(config.library), str(config.workspace))
        headers = {}
        if server.auth:
            headers["authorization"] = f"Basic {base64.b64encode(server.auth.encode()).decode()}"
        elif server.key:
            headers["authorization"] = f"Bearer {server.key}"
        self._client = httpx.Client(
            base_url=server.api.rstrip("/"), headers=headers, timeout=REQUEST_SECONDS
        )
        self._lock = threading.Lock()
        self._latest: tuple[float, ServerState] | None = None

    def state(self) -> ServerState:
        """Return this project's deployments and latest runs, or why the server does not say."""
        with self._lock:
            if self._latest is None or time.monotonic() - self._latest[0] > STATE_SECONDS:
                self._latest = time.monotonic(), self._read_state()
            return self._latest[1]

    def start(self, deployment: str) -> None:
        """Start a run of a deployment of this project. Raises BadInput."""
        if deployment not in self._deployments():
            raise BadInput("this is not a deployment of the project", where="Prefect's server")
        self._ask("POST", f"/deployments/{deployment}/create_flow_run", {})
        self._forget()

    def cancel(self, run: str) -> None:
        """Cancel a run of this project. Raises BadInput."""
        found = self._ask("GET", f"/flow_runs/{run}")
        if str(found.get("deployment_id")) not in self._deployments():
            raise BadInput("this is not a run of the project", where="Prefect's server")
        body = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        reply = self._ask("POST", f"/flow_runs/{run}/set_state", body)
        if reply.get("status") not in ("ACCEPT", None):
            reason = (reply.get("details") or {}).get("reason") or "it has ended"
            raise BadInput(f"the run cannot be cancelled: {reason}", where="Prefect's server")
        self._forget()

    def _forget(self) -> None:
        with self._lock:
            self._latest = None

    def _read_state(self) -> ServerState:
        try:
            deployments = self._deployments()
            if not deployments:
                return ServerState(
                    self._server.page,
                    problem="This project has no deployments: `mimix deploy` makes them.",
                )
            runs = self._ask(
                "POST",
                "/flow_runs/filter",
                {
                    "deployments": {"id": {"any_": list(deployments)}},
                    "sort": "EXPECTED_START_TIME_DESC",
                    "limit": MAX_RUNS,
                },
            )
            at_work = [str(run["id"]) for run in runs if run["state_type"] == "RUNNING"]
            progress = self._progress(at_work)
            return ServerState(
                self._server.page,
                tuple(sorted(deployments.items(), key=lambda one: one[1])),
                tuple(self._describe(run, deployments, progress) for run in runs),
            )
        except BadInput as error:
            return ServerState(self._server.page, problem=str(error))

    def _deployments(self) -> dict[str, str]:
        """Return the names of this project's deployments, by id."""
        found = self._ask(
            "POST", "/deployments/filter", {"deployments": {"tags": {"all_": [_TAG]}}, "limit": 200}
        )
        own = [one for one in found if self._is_own(one)]
        flows = self._ask(
            "POST",
            "/flows/filter",
            {"flows": {"id": {"any_": sorted({str(one["flow_id"]) for one in own})}}, "limit": 200},
        )
        names = {str(flow["id"]): str(flow["name"]) for flow in flows}
        return {str(one["id"]): names.get(str(one["flow_id"]), str(one["name"])) for one in own}

    def _is_own(self, deployment: dict[str, Any]) -> bool:
        config = (deployment.get("parameters") or {}).get("config")
        if not isinstance(config, dict):
            return False
        owner = (str(config.get("library")), str(config.get("workspace", self._owner[1])))
        return owner == self._owner

    def _progress(self, runs: Sequence[str]) -> dict[str, list[tuple[str, float]]]:
        """Return what the units of these runs have reported last, by run."""
        if not runs:
            return {}
        found = self._ask(
            "POST",
            "/artifacts/filter",
            {
                "artifacts": {
                    "flow_run_id": {"any_": list(runs)},
                    "type": {"any_": ["progress"]},
                },
                "sort": "UPDATED_DESC",
                "limit": 50,
            },
        )
        progress: dict[str, list[tuple[str, float]]] = {}
        for one in found:
            percent = float(one.get("data") or 0)
            if percent < 100:
                text = re.sub(r"\\(.)", r"\1", str(one.get("description") or ""))
                progress.setdefault(str(one["flow_run_id"]), []).append((text, percent))
        return progress

    def _describe(
        self,
        run: dict[str, Any],
        deployments: dict[str, str],
        progress: dict[str, list[tuple[str, float]]],
    ) -> ServerRun:
        name = str(run["id"])
        return ServerRun(
            id=name,
            name=str(run["name"]),
            flow=deployments.get(str(run["deployment_id"]), ""),
            state=str(run["state_name"] or run["state_type"] or ""),
            started=str(run["start_time"] or run["expected_start_time"] or ""),
            page=f"{self._server.page}/runs/flow-run/{name}",
            can_cancel=run["state_type"] not in _ENDED,
            progress=tuple(progress.get(name, ())[:8]),
        )

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return the answer. Raises BadInput if the server has none."""
        try:
            reply = self._client.request(method, path, json=body)
            reply.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise BadInput(
                f"answered {error.response.status_code}", where="Prefect's server"
            ) from error
        except httpx.HTTPError as error:
            raise BadInput(
                "does not answer", where=f"Prefect's server at {self._server.api}"
            ) from error
        return reply.json() if reply.content else {}


def main() -> None:
    """Print the address of Prefect's server as JSON."""
    from flows import prefect_environment

    prefect_environment.configure_prefect()
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    api = settings.api.url or ""
    page = settings.ui_url or re.sub(r"/api/?$", "", api)
    auth, key = settings.api.auth_string, settings.api.key
    address = ServerAddress(
        api=api,
        page=page.rstrip("/"),
        auth=auth.get_secret_value() if auth else "",
        key=key.get_secret_value() if key else "",
    )
    sys.stdout.write(address.model_dump_json() + "\n")


if __name__ == "__main__":
    main()
