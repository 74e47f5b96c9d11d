"""The source distribution has every file of the project; the wheel made from it has the program and its resources."""

from __future__ import annotations

import email.message
import email.parser
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent.parent
# Folders whose every file belongs to the project.
FOLDERS = ("wgsyncd", "etc", "systemd", "tests")
VERSION = "wgsyncd/_version.py"  # the build writes it
AT_THE_TOP = {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "requirements.lock"}


def ours() -> set[str]:
    """Every file of the project, but for those that Python, a test or a build has written."""
    files = {path.relative_to(TOP).as_posix() for folder in FOLDERS for path in TOP.glob(f"{folder}/**/*") if path.is_file()}  # fmt: skip
    written = ("/__pycache__/", ".pyc", VERSION)
    return AT_THE_TOP | {name for name in files if not any(one in name for one in written)}


def build(source: Path, target: str, directory: Path) -> Path:
    """What the project's own build backend makes of a source tree."""
    argv = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(directory)]
    done = subprocess.run(argv, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [made] = directory.glob("*.tar.gz" if target == "sdist" else "*.whl")
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    top = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(TOP, "sdist", top)) as archive:
        archive.extractall(top, filter="data")
    [unpacked] = [path for path in top.iterdir() if path.is_dir()]
    return unpacked


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that the source distribution builds."""
    return zipfile.ZipFile(build(sdist, "wheel", tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.parser.Parser().parsestr(wheel.read(name).decode())


def test_the_sdist_has_what_a_distributor_needs(sdist: Path) -> None:
    found = {path.relative_to(sdist).as_posix() for path in sdist.glob("**/*") if path.is_file()}
    assert found - {"PKG-INFO", ".gitignore", ".ci/run"} == {VERSION, *ours()}
    assert (sdist / "tests/run").stat().st_mode & 0o111, "scripts stay executable"


def test_the_wheel_has_the_program_and_the_files_that_it_reads(wheel: zipfile.ZipFile) -> None:
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    resources = {f"wgsyncd/{name}" for name in ours() if name.startswith("etc/sql/") or name == "etc/wgsyncd.toml"}
    assert found == {VERSION} | resources | {name for name in ours() if name.startswith("wgsyncd/")}
    code = "".join(path.read_text() for path in TOP.glob("wgsyncd/**/*.py"))
    asked_for = re.findall(r'resources\.text\("([^"]+)"\)', code)
    assert len(asked_for) >= 5
    assert {f"wgsyncd/etc/{name}" for name in asked_for} <= found


def test_the_metadata_says_whose_it_is_and_who_may_use_it(
    wheel: zipfile.ZipFile, metadata: email.message.Message
) -> None:
    assert (metadata["License-Expression"], metadata["License-File"]) == ("MIT", "LICENSE")
    assert metadata["Author"] == "wgsyncd contributors"
    [name] = [name for name in wheel.namelist() if name.endswith("/LICENSE")]
    assert wheel.read(name) == (TOP / "LICENSE").read_bytes()
    assert "WireGuard" in metadata["Keywords"]
    assert "Topic :: System :: Networking" in metadata.get_all("Classifier", [])
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (TOP / "README.md").read_text()


def test_every_direct_dependency_is_locked() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    names = {w.split(">")[0].strip().lower().replace("_", "-") for w in wanted}
    lines = (TOP / "requirements.lock").read_text().splitlines()
    locked = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert names <= locked
