"""The lock files are closures, and are installed as they stand: what is published later changes nothing."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

RUNTIME, BUILD, DEV = (ROOT / f"requirements{part}.lock" for part in ("", "-build", "-dev"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
INSTALLERS = [
    path
    for path in (ROOT / "Makefile", ROOT / "Dockerfile", ROOT / ".ci" / "run", *ROOT.glob("*.md"))
    if path.exists()  # a source distribution has fewer
] + [*(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").iterdir()]
"""What installs something, or tells people how to."""


def pins(lock: Path) -> dict[str, Requirement]:
    """Return what a lock file pins, by name."""
    lines = [line.removesuffix("\\").strip() for line in lock.read_text().splitlines() if re.match(r"[a-z0-9]", line)]
    return {canonicalize_name(made.name): made for made in map(Requirement, lines)}


def closure(*wanted: str) -> set[str]:
    """Return the names of all that these requirements bring here, extras too, as the installed packages say."""
    found: set[tuple[str, str]] = set()
    pending = [(Requirement(text), "") for text in wanted]
    while pending:
        requirement, extra = pending.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for asked in {"", *requirement.extras}:
            key = (canonicalize_name(requirement.name), asked)
            if key not in found:
                found.add(key)
                pending += [(Requirement(text), asked) for text in requires(requirement.name) or ()]
    return {name for name, _ in found}


def here(requirement: Requirement) -> bool:
    """Whether a pin is for a machine such as this."""
    return requirement.marker is None or requirement.marker.evaluate()


def test_the_runtime_lock_is_the_closure_of_the_dependencies() -> None:
    """What the program needs is pinned, all of it, and nothing of what builds or tests it."""
    pinned = {name for name, requirement in pins(RUNTIME).items() if here(requirement)}

    assert pinned == closure(*PROJECT["project"]["dependencies"])
    assert "hatchling" not in pinned


def test_the_build_lock_is_the_closure_of_the_build_system() -> None:
    """The build tools have a lock of their own, and the development group names the same ones."""
    wanted = PROJECT["build-system"]["requires"]

    assert {name for name, requirement in pins(BUILD).items() if here(requirement)} == closure(*wanted)
    assert PROJECT["dependency-groups"]["build"] == wanted


def test_the_development_lock_pins_the_other_two_alike() -> None:
    """What is tested is what is installed elsewhere."""
    development = {name: str(requirement) for name, requirement in pins(DEV).items()}
    others = {name: str(requirement) for lock in (RUNTIME, BUILD) for name, requirement in pins(lock).items()}

    assert others.items() <= development.items()


@pytest.mark.parametrize("lock", [RUNTIME, BUILD, DEV], ids=lambda lock: lock.name)
def test_a_lock_pins_by_hash_and_names_no_host(lock: Path) -> None:
    """Each pin is one version with its hashes, wherever it comes from."""
    text = lock.read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text)

    assert not re.search(r"://|\s@\s|^\s*-{1,2}(?!hash=)[a-z]", text, re.MULTILINE)
    assert all(re.fullmatch(r"==[^,*]+", str(requirement.specifier)) for requirement in pins(lock).values())
    assert len(entries) == len(pins(lock))
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("file", INSTALLERS, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_that_installs_resolves(file: Path) -> None:
    """Whatever installs, and every page that says how to, has pip take the pins as they are."""
    steps = re.split(r"&&|\n", file.read_text().replace("\\\n", " "))
    installing = [step for step in steps if re.search(r"\bpip3?\b[^`]*\binstall\s+[^\s`]", step, re.IGNORECASE)]

    assert [step for step in installing if "--no-deps" not in step] == []
    assert not any(re.search(r"\bpipx\b|\buv (pip|sync|tool)\b(?! compile)", step) for step in steps)


def make_dry(*words: str) -> list[str]:
    """Return what make would do."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**own, "LC_ALL": "C"},
    )
    return done.stdout.splitlines()


def install_commands() -> Iterator[list[str]]:
    """Yield the commands by which make installs the lock files."""
    for line in make_dry("--always-make", ".venv/.dev", ".venv/.runtime", f"PYTHON={sys.executable}"):
        if " pip " in line and " -r " in line:
            yield shlex.split(line)


def make_wheel(folder: Path, name: str, version: str, *needs: str) -> str:
    """Make a wheel that holds nothing but its needs, and return its line for a lock file."""
    file = folder / f"{name}-{version}-py3-none-any.whl"
    head = f"{name}-{version}.dist-info"
    metadata = "".join([f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", *(f"{need}\n" for need in needs)])
    tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr(f"{head}/METADATA", metadata)
        wheel.writestr(f"{head}/WHEEL", tag)
        wheel.writestr(f"{head}/RECORD", f"{head}/METADATA,,\n{head}/WHEEL,,\n{head}/RECORD,,\n")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"


def test_a_release_after_the_lock_changes_nothing(tmp_path: Path) -> None:
    """What a pin wants with an extra, as pytest-cov coverage[toml], comes as it is pinned though a newer one is out."""
    wheels, made = tmp_path / "wheels", tmp_path / "made"
    wheels.mkdir()
    extra = ("Provides-Extra: toml", "Requires-Dist: tomlreader>=1; extra == 'toml'")
    lock = make_wheel(wheels, "plugin", "1.0", "Requires-Dist: measure[toml]>=1")
    lock += make_wheel(wheels, "measure", "1.0", *extra)
    lock += make_wheel(wheels, "tomlreader", "1.0")
    make_wheel(wheels, "measure", "2.0", *extra)
    make_wheel(wheels, "tomlreader", "2.0")
    for name in (RUNTIME.name, BUILD.name, DEV.name):
        (tmp_path / name).write_text(lock)
    offline = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}

    for count, command in enumerate(install_commands()):
        assert command[0].endswith("bin/python")
        place = made / str(count)
        done = subprocess.run(
            [sys.executable, *command[1:]],
            cwd=tmp_path,
            env={**os.environ, **offline, "PIP_TARGET": str(place)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        installed = sorted(path.name for path in place.glob("*.dist-info"))
        assert installed == ["measure-1.0.dist-info", "plugin-1.0.dist-info", "tomlreader-1.0.dist-info"]
    assert len(list(made.iterdir())) == 2


def test_another_python_makes_the_environment_anew(tmp_path: Path) -> None:
    """An environment is taken for the Python it was made with alone, and then not made again."""
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 3.99.0\n")
    other.chmod(0o755)
    for stamp in (f".made-{platform.python_version()}", ".dev", ".runtime"):
        (tmp_path / stamp).touch()

    def steps(python: str) -> list[str]:
        return make_dry(f"{tmp_path}/.dev", f"VENV={tmp_path}", f"PYTHON={python}")

    assert steps(sys.executable) == [f"make: '{tmp_path}/.dev' is up to date."]
    made, stamp, *installed = steps(str(other))[-6:]
    assert made == f"{other} -m venv --clear {tmp_path}"
    assert stamp == f"touch {tmp_path}/.made-3.99.0"
    assert installed[0].endswith("install --no-deps --require-hashes -r requirements-dev.lock")
