"""``mimix store``: damage that no time stamp shows is found, and unused results are removed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.augment import augment_stages
from flows.cli import app
from flows.curate import curate_stages
from mimix_core.engine.store import Store
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import load_config
from tests.deployments.project_factory import write_project
from tests.paths import ROOT
from tests.tasks.test_dataset_approval import InProcess

runner = CliRunner()


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with all results up to the dataset, computed with two settings of the dataset."""
    folder = tmp_path_factory.mktemp("store")
    settings = write_project(folder)
    for seed in (1, 2):
        text = settings.read_text().replace("val_share: 0.5", f"val_share: 0.5, seed: {seed}")
        (folder / f"seed-{seed}.yaml").write_text(text)
        run = InProcess(open_workspace(load_config(folder / f"seed-{seed}.yaml")))
        augment_stages(run, curate_stages(run))
    return folder


@pytest.fixture
def project(curated: Path, tmp_path: Path) -> Path:
    shutil.copytree(curated, tmp_path / "p", symlinks=True)
    return tmp_path / "p"


def rot(path: Path) -> None:
    """Change one bit of a file, as a disk does: size and times stay."""
    stats = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stats.st_atime_ns, stats.st_mtime_ns))


def results(project: Path, stage: str) -> set[str]:
    return {path.name for path in (project / "workspace" / "store" / stage).glob("*")}


def test_an_intact_store_is_verified(project: Path) -> None:
    said = runner.invoke(app, ["store", "verify", str(project / "seed-1.yaml")])
    assert said.exit_code == 0, said.output
    assert ": 0 damaged" in said.output


def test_bit_rot_is_found_although_size_and_time_are_unchanged(project: Path) -> None:
    store = Store(project / "workspace" / "store")
    clip = min((project / "workspace" / "store" / "clips").glob("*/clips/*.mp4"))
    key = clip.parent.parent.name
    rot(clip)
    record = min((project / "workspace" / "store" / "captions").glob("*/stage.json"))
    record.write_text("{")
    gone = min((project / "workspace" / "store" / "scenes").glob("*/table.parquet"))
    gone.unlink()
    film = min((project / "toons").glob("*.mp4"))
    assert store.lookup("clips", key) is not None, "a look-up cannot see it"
    settings = str(project / "seed-1.yaml")
    # Sources are known by their path: read them once where they are now.
    open_workspace(load_config(project / "seed-1.yaml"))
    rot(film)
    said = runner.invoke(app, ["store", "verify", settings])
    assert said.exit_code == 1
    lines = said.output.splitlines()
    for path, problem in (
        (clip, "has other content than was committed"),
        (record, "is not a record"),
        (gone, "cannot be read"),
        (film, "has other content than when it was first read"),
    ):
        assert any(str(path) in line and problem in line for line in lines), said.output
    assert "3 damaged" in said.output
    discarded = runner.invoke(app, ["store", "verify", settings, "--discard"])
    assert discarded.exit_code == 1
    assert not (store.root / "clips" / key).exists()
    again = runner.invoke(app, ["store", "verify", settings])
    assert ": 0 damaged" in again.output
    assert str(film) in again.output


def test_bit_rot_of_the_model_is_found(project: Path) -> None:
    weights = project / "wan" / "vae" / "diffusion_pytorch_model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    settings = project / "wan.yaml"
    text = (project / "seed-1.yaml").read_text()
    model = "{name: wan2.1-t2v-14b, path: wan}"
    settings.write_text(text.replace("{name: tiny-random-wan}", model))
    open_workspace(load_config(settings)).store.source_ref(project / "wan")
    assert runner.invoke(app, ["store", "verify", str(settings)]).exit_code == 0
    rot(weights)
    said = runner.invoke(app, ["store", "verify", str(settings)])
    assert said.exit_code == 1
    assert f"{weights} has other content than when it was first read" in said.output


def test_unused_results_are_listed_first_and_removed_on_request(project: Path) -> None:
    one, two = (str(project / f"seed-{seed}.yaml") for seed in (1, 2))
    before = results(project, "dataset")
    assert len(before) == 2
    old = min((project / "workspace" / "store" / "scenes").glob("*"))
    shutil.copytree(old, old.with_name("f" * 64))
    record = old.with_name("f" * 64) / "stage.json"
    record.write_text(
        record.read_text().replace(old.name, "f" * 64).replace('"version": ', '"version": 9')
    )
    both = runner.invoke(app, ["store", "prune", one, two])
    assert both.exit_code == 0, both.output
    assert "1 unused results" in both.output and "version 9" in both.output
    assert len(results(project, "scenes")) == 4, "nothing is removed without --delete"
    first = runner.invoke(app, ["store", "prune", one, "--delete"])
    assert " results removed" in first.output, first.output
    assert len(results(project, "scenes")) == 3
    assert len(results(project, "dataset")) == 1
    run = InProcess(open_workspace(load_config(project / "seed-1.yaml")))
    augment_stages(run, curate_stages(run))
    assert results(project, "dataset") < before, "what is used was not removed"


def test_results_are_kept_while_a_new_episode_is_not_processed(project: Path) -> None:
    shutil.copy(project / "toons" / "first.mp4", project / "toons" / "third.mp4")
    with (project / "toons" / "third.mp4").open("ab") as file:
        file.write(b"another file")
    before = {stage: results(project, stage) for stage in ("clips", "captions", "dataset")}
    said = runner.invoke(app, ["store", "prune", str(project / "seed-1.yaml"), "--delete"])
    assert said.exit_code == 0, said.output
    assert "Not judged: " in said.output
    assert {stage: results(project, stage) for stage in before} == before


@pytest.mark.e2e
def test_a_user_who_may_only_read_can_look_but_not_run(project: Path, tmp_path: Path) -> None:
    settings = str(project / "seed-1.yaml")
    shutil.rmtree(project / "workspace" / "store" / ".digests")
    as_reader: list[str] = []
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("no setpriv to drop root's right to write everywhere")
        capabilities = "-dac_override,-dac_read_search,-fowner,-chown"
        as_reader = ["setpriv", "--bounding-set", capabilities, "--inh-caps", "-all"]
    for path in (*project.rglob("*"), project):
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)
            if os.getuid() == 0:
                os.chown(path, 65534, 65534)

    def mimix(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*as_reader, sys.executable, "-m", "flows.cli", *words],
            cwd=ROOT,
            env={**os.environ, "PREFECT_HOME": str(tmp_path / "prefect")},
            capture_output=True,
            text=True,
            check=False,
        )

    review = mimix("review", settings)
    assert "3 samples" in review.stdout, review.stdout + review.stderr
    assert mimix("quarantine", settings).returncode == 0
    refused = mimix("review", settings, "--approve")
    assert refused.returncode == 1
    assert "Permission denied" in refused.stderr and "Traceback" not in refused.stderr
    for path in (project, *project.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


def test_a_file_as_workspace_is_refused(project: Path) -> None:
    (project / "film").write_text("not a folder")
    for workspace in ("film", "film/below"):
        said = runner.invoke(
            app, ["review", str(project / "seed-1.yaml"), "--workspace", str(project / workspace)]
        )
        assert said.exit_code == 2
        assert f"{project / 'film'} is a file, not a folder" in said.output.replace("\n", "")
