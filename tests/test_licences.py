"""What MiMix requires is permissively licensed, listed, and comparable with advisories."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from perf.sbom import (
    TOOLS,
    Package,
    find_advisories,
    list_packages,
    read_advisories,
    to_cyclonedx,
)
from tests.paths import ROOT


@pytest.fixture(scope="module")
def packages() -> list[Package]:
    return list_packages(["all", "dev"])


def test_no_requirement_has_a_licence_that_restricts_use(packages: list[Package]) -> None:
    assert len(packages) > 150
    others = [one for one in packages if not one.is_permissive and not one.is_of_cuda]
    assert [(one.name, one.licence) for one in others] == [
        (name, licence) for name, licence in TOOLS.items() if name in {p.name for p in packages}
    ]
    assert not {one.name for one in list_packages(["all"])} & set(TOOLS)


@pytest.mark.parametrize(
    ("licence", "permissive"),
    [
        ("MIT", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("Artistic-1.0-Perl OR GPL-2.0-or-later", True),
        ("GNU Affero General Public License v3", False),
        ("AGPL-3.0-only", False),
        ("MIT AND AGPL-3.0", False),
        ("GPL-3.0", False),
        ("CC-BY-NC-4.0", False),
        ("Apache License, with Commons Clause", False),
        ("Free for non-commercial use", False),
        ("SSPL-1.0", False),
        ("", False),
    ],
)
def test_a_licence_is_told_from_another(licence: str, permissive: bool) -> None:
    assert Package("x", "1", licence).is_permissive == permissive


def test_the_bill_of_materials_is_complete_and_refers_to_itself(packages: list[Package]) -> None:
    document = json.loads(json.dumps(to_cyclonedx(packages)))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    refs = [one["bom-ref"] for one in document["components"]]
    assert len(set(refs)) == len(refs) == len(packages)
    for one in document["dependencies"]:
        assert one["ref"] in {*refs, "mimix"}
        assert set(one["dependsOn"]) <= set(refs)
    pinned = {
        canonicalize_name(match[1])
        for match in re.finditer(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.M)
    }
    # Which libraries of CUDA and which triton there are is for PyTorch's wheel to say.
    named = {one.name for one in packages if not one.is_of_cuda}
    missing = named - pinned - {"sam2", "pip", "setuptools", "wheel", "triton"}
    assert missing == set()


def test_advisories_are_read_from_files_and_compared_by_version(tmp_path: Path) -> None:
    def advisory(name: str, package: str, **affected: object) -> dict[str, object]:
        named = {"ecosystem": "PyPI", "name": package}
        return {"id": name, "summary": "s", "affected": [{"package": named, **affected}]}

    def span(*events: dict[str, str]) -> list[dict[str, object]]:
        return [{"type": "ECOSYSTEM", "events": list(events)}]

    known = [
        advisory("A", "Some_Package", versions=["1.2.0"]),
        advisory("B", "some-package", ranges=span({"introduced": "0"}, {"fixed": "1.2.1"})),
        advisory("C", "some-package", ranges=span({"introduced": "0"}, {"fixed": "1.2.0"})),
        advisory("D", "some-package", ranges=span({"introduced": "1.1"}, {"last_affected": "1.2"})),
        advisory("E", "some-package", ranges=span({"introduced": "2"})),
        advisory("F", "another"),
        advisory("G", "some-package", versions=["1.2.0"]) | {"withdrawn": "2026-01-01T00:00:00Z"},
    ]
    path = tmp_path / "all.zip"
    (tmp_path / "folder").mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for one in known:
            archive.writestr(f"{one['id']}.json", json.dumps(one))
            (tmp_path / "folder" / f"{one['id']}.json").write_text(json.dumps(one))
    packages = [Package("some-package", "1.2.0", "MIT")]
    for source in (path, tmp_path / "folder"):
        found = find_advisories(packages, read_advisories(source))
        assert [name for _, name, _ in found] == ["A", "B", "D"]
