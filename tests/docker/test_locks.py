"""The locks of the images: they agree with the constraints, hold all that is needed, and pip takes nothing else."""

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from docker.write_locks import MACHINES, Image, Lock, Wheel, images, pins, resolve
from tests.docker.files import DOCKER, ROOT

LOCKS = sorted(path.stem for path in DOCKER.glob("*.lock"))
CONSTRAINTS = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
IMAGE = Image("3.12.3", 39, ("ours[fast]>=1",))
WHEELS = {
    "ours": ("ours", "1.0", ("base>=2", 'extra; extra == "fast"', 'old; python_version < "3.12"')),
    "base": ("base", "2.0", ("ours",)),
    "extra": ("extra", "3.0", ('arm-only; platform_machine == "aarch64"',)),
    "arm-only": ("arm-only", "4.0", ()),
    "torch": ("torch", "5.0", ("base", "vendor==1")),
}
VERSIONS = {canonicalize_name(name): version for name, version, _ in WHEELS.values()}


def _text(lock: str) -> str:
    return (DOCKER / f"{lock}.lock").read_text(encoding="utf-8")


def _fetch(wanted: Iterable[str], machine: str) -> list[Wheel]:
    rows = [WHEELS[pin.split("==")[0]] for pin in wanted]
    return [Wheel(canonicalize_name(name), version, f"{name}-{machine}", needs) for name, version, needs in rows]


def test_there_is_a_lock_for_each_image_and_for_what_builds_our_package() -> None:
    assert sorted(images()) == LOCKS


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash_and_every_hash_a_pin(lock: str) -> None:
    rows = _text(lock).split("\n", 1)[1].replace("\\\n", "").strip().splitlines()

    wrong = [row for row in rows if not re.fullmatch(r"[a-z0-9-]+==\S+ ( *--hash=sha256:[0-9a-f]{64} ?)+", row + " ")]

    assert rows != []
    assert wrong == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_the_versions_of_the_constraints(lock: str) -> None:
    assert {name: (version, CONSTRAINTS.get(name)) for name, version in pins(_text(lock)).items()} == {
        name: (version, version) for name, version in pins(_text(lock)).items()
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_all_that_is_asked_for(lock: str) -> None:
    wanted = {canonicalize_name(Requirement(text).name) for text in images()[lock].requirements}

    assert wanted - pins(_text(lock)).keys() == set()


@pytest.mark.parametrize("lock", ["api", "worker"])
def test_a_lock_holds_all_that_its_packages_need_here(lock: str) -> None:
    locked = pins(_text(lock)).keys()

    needs = {
        (name, canonicalize_name(need.name))
        for name in locked - {"torch"}
        for need in map(Requirement, requires(name) or ())
        if need.marker is None or need.marker.evaluate({**images()[lock].markers(MACHINES[0]), "extra": ""})
    }

    assert {(name, need) for name, need in needs if need not in locked} == set()


def test_extras_and_markers_of_the_image_decide_what_is_locked() -> None:
    lock = resolve(IMAGE, VERSIONS, _fetch)

    assert lock.versions == {"ours": "1.0", "base": "2.0", "extra": "3.0", "arm-only": "4.0"}
    assert lock.hashes["base"] == {"base-x86_64", "base-aarch64"}
    assert lock.hashes["arm-only"] == {"arm-only-aarch64"}


def test_what_is_needed_and_not_pinned_ends_the_writing() -> None:
    with pytest.raises(SystemExit, match="not among the constraints: base"):
        resolve(IMAGE, {name: version for name, version in VERSIONS.items() if name != "base"}, _fetch)


def test_only_what_torch_needs_may_be_absent() -> None:
    lock = resolve(Image("3.12.3", 39, ("torch",)), VERSIONS, _fetch)

    assert lock.versions == {"torch": "5.0", "base": "2.0", "ours": "1.0"}


def test_a_build_that_no_index_has_ends_the_writing() -> None:
    def fetch(wanted: Iterable[str], machine: str) -> list[Wheel]:
        return [wheel._replace(version=f"{wheel.version}+cpu") for wheel in _fetch(wanted, machine)]

    with pytest.raises(SystemExit, match="set no find-links"):
        resolve(IMAGE, VERSIONS, fetch)


@pytest.mark.parametrize(("tampered", "ends_well"), [(False, True), (True, False)])
def test_pip_takes_the_file_of_a_lock_and_no_other(tmp_path: Path, *, tampered: bool, ends_well: bool) -> None:
    wheel = _write_wheel(tmp_path, "srr_sample", "1.0")
    lock = Lock()
    lock.add(Wheel(canonicalize_name("srr-sample"), "1.0", hashlib.sha256(wheel.read_bytes()).hexdigest(), ()))
    (tmp_path / "sample.lock").write_text(lock.text("a sample"))
    if tampered:
        _write_wheel(tmp_path, "srr_sample", "1.0", code="print('other')")

    command = [sys.executable, "-m", "pip", "install", "--isolated", "--no-index", f"--find-links={tmp_path}"]
    command += ["--require-hashes", "--no-deps", f"--target={tmp_path / 'installed'}", "-r", tmp_path / "sample.lock"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (result.returncode == 0) is ends_well, result.stderr
    assert (tmp_path / "installed" / "srr_sample.py").exists() is ends_well


def _write_wheel(folder: Path, name: str, version: str, *, code: str = "") -> Path:
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", code)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path
