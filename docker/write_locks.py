"""Writes the locks of the images: every package that one installs, at its tested version, with the hashes of its files.

`make lock` runs this after constraints.txt is written. A lock is found by walking the metadata of the files that an
image installs, under the markers of its own Python and machine; pip resolves under those of the Python that runs it.
Hashes are those of the index that pip is set up with, and pip checks each file against them.

What torch needs of NVIDIA (and triton) is not in a lock. Torch is, and its metadata names those packages at one version
each; they are gigabytes, and not every index holds them. The worker's Dockerfile installs them in a step of their own.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
MACHINES = ("x86_64", "aarch64")
UNLOCKED_NEEDS_OF = "torch"
"""The one package whose needs may be absent from the constraints."""
_OLDEST_GLIBC = 5
"""Minor version: manylinux 2.5 is the first there is."""
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True)
class Image:
    """What an image installs, and on what."""

    python: str
    glibc: int
    """Minor version of its C library."""
    requirements: tuple[str, ...]

    def markers(self, machine: str) -> dict[str, str]:
        """Return the environment its markers see."""
        return {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": self.python,
            "python_version": self.python.rpartition(".")[0],
            "sys_platform": "linux",
        }

    def platforms(self, machine: str) -> Iterator[str]:
        """Yield the names of the wheels it takes, the newest first."""
        for minor in range(self.glibc, _OLDEST_GLIBC - 1, -1):
            yield f"manylinux_2_{minor}_{machine}"
            if minor in _LEGACY:
                yield f"{_LEGACY[minor]}_{machine}"


class Wheel(NamedTuple):
    """One file of a package."""

    name: NormalizedName
    version: str
    sha256: str
    needs: tuple[str, ...]


@dataclass
class Lock:
    """Versions and hashes by name."""

    versions: dict[NormalizedName, str] = field(default_factory=dict)
    hashes: dict[NormalizedName, set[str]] = field(default_factory=dict)

    def add(self, wheel: Wheel) -> None:
        """Add a file."""
        self.versions[wheel.name] = wheel.version
        self.hashes.setdefault(wheel.name, set()).add(wheel.sha256)

    def text(self, image: str) -> str:
        """Return it as pip reads it."""
        lines = [f"# Written by `make lock`: what {image} installs, with the hash of every file that suits it."]
        for name in sorted(self.versions):
            hashes = [f"    --hash=sha256:{digest}" for digest in sorted(self.hashes[name])]
            lines.append(" \\\n".join([f"{name}=={self.versions[name]}", *hashes]))
        return "\n".join(lines) + "\n"


Fetch = Callable[[Iterable[str], str], Iterable[Wheel]]
"""Takes pins and a machine, and returns the files that pip would install."""


def images() -> dict[str, Image]:
    """Return what is locked, by the name of the lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted, extras = project["project"]["dependencies"], project["project"]["optional-dependencies"]
    worker = (*wanted, *extras["worker"], *extras["postgresql"], *extras["gguf"])
    build = tuple(project["build-system"]["requires"])
    return {
        "api": Image("3.11.13", 36, (*wanted, *extras["postgresql"])),  # Debian 12
        "worker": Image("3.12.3", 39, worker),  # Ubuntu 24.04
        "build": Image("3.11.13", 36, build),  # pure Python, and the same under both
    }


def pins(text: str) -> dict[NormalizedName, str]:
    """Return the versions that constraints or a lock name."""
    lines = [line.removesuffix("\\").strip().split("==") for line in text.splitlines() if "==" in line]
    return {canonicalize_name(name): version for name, version in lines}


def resolve(image: Image, constraints: Mapping[NormalizedName, str], fetch: Fetch) -> Lock:
    """Return the lock of an image.

    Raises:
        SystemExit: A package is needed and not among the constraints, or the index has another build of one.
    """
    lock = Lock()
    for machine in MACHINES:
        for wheel in _wheels(image, machine, constraints, fetch):
            if wheel.version != constraints[wheel.name]:
                raise SystemExit(f"{wheel.name} {wheel.version} is no build of an index; set no find-links for this")
            lock.add(wheel)
    return lock


def _wheels(image: Image, machine: str, constraints: Mapping[NormalizedName, str], fetch: Fetch) -> Iterable[Wheel]:
    markers, wheels = image.markers(machine), dict[NormalizedName, Wheel]()
    done, todo = set[tuple[NormalizedName, str]](), _needs(image.requirements, markers, "")
    while todo:
        missing = {name for name, _ in todo} - constraints.keys()
        if missing:
            raise SystemExit(f"not among the constraints: {', '.join(sorted(missing))}")
        new = sorted({name for name, _ in todo} - wheels.keys())
        wheels |= {wheel.name: wheel for wheel in fetch([f"{name}=={constraints[name]}" for name in new], machine)}
        done |= todo
        todo = {
            need
            for name, extra in todo
            for need in _needs(wheels[name].needs, markers, extra)
            if name != UNLOCKED_NEEDS_OF or need[0] in constraints
        } - done
    return wheels.values()


def _needs(requirements: Iterable[str], markers: Mapping[str, str], extra: str) -> set[tuple[NormalizedName, str]]:
    """Return what is needed under these markers, once by itself and once with each extra that is asked for."""
    found = set()
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate({**markers, "extra": extra}):
            found |= {(canonicalize_name(requirement.name), name) for name in ("", *requirement.extras)}
    return found


def fetch_for(image: Image) -> Fetch:
    """Return what asks pip for the files of an image."""

    def fetch(wanted: Iterable[str], machine: str) -> Iterable[Wheel]:
        wanted = list(wanted)
        return list(map(_wheel, _report(image, wanted, machine)["install"])) if wanted else []

    return fetch


def _report(image: Image, wanted: Iterable[str], machine: str) -> dict[str, Any]:
    platforms = [f"--platform={platform}" for platform in image.platforms(machine)]
    with tempfile.TemporaryDirectory() as target:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed"]
        command += ["--disable-pip-version-check", "--report=-", f"--target={target}", "--only-binary=:all:"]
        result = subprocess.run(
            [*command, f"--python-version={image.python}", *platforms, *wanted], stdout=subprocess.PIPE, check=True
        )
    return dict(json.loads(result.stdout))


def _wheel(row: Mapping[str, Any]) -> Wheel:
    metadata = row["metadata"]
    sha256 = row["download_info"]["archive_info"]["hashes"]["sha256"]
    return Wheel(
        canonicalize_name(metadata["name"]), metadata["version"], sha256, tuple(metadata.get("requires_dist", ()))
    )


def main() -> None:
    """Write every lock."""
    constraints = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    for name, image in images().items():
        lock = resolve(image, constraints, fetch_for(image))
        (DOCKER / f"{name}.lock").write_text(lock.text(f"the {name} image" if name != "build" else "the builder"))


if __name__ == "__main__":
    main()
