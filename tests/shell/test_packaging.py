"""The source distribution has every file, and its wheel has the program and its resources."""

from __future__ import annotations

import email.message
import email.parser
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from wgsyncd.config.resources import install_command

TOP = Path(__file__).resolve().parent.parent.parent
# Every file in these folders belongs to the project.
FOLDERS = ("wgsyncd", "etc", "systemd", "tests")
VERSION = "wgsyncd/_version.py"  # the build writes it
AT_THE_TOP = {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "requirements.lock"}


def ours() -> set[str]:
    """Returns every file of the project. Files that Python, a test or a build has written are left out."""
    files = {path.relative_to(TOP).as_posix() for folder in FOLDERS for path in TOP.glob(f"{folder}/**/*") if path.is_file()}  # fmt: skip
    written = ("/__pycache__/", ".pyc", VERSION)
    return AT_THE_TOP | {name for name in files if not any(one in name for one in written)}


def build(source: Path, target: str, directory: Path) -> Path:
    """Returns the file that the project's own build backend makes of a source tree."""
    argv = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(directory)]
    done = subprocess.run(argv, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [made] = directory.glob("*.tar.gz" if target == "sdist" else "*.whl")
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of the unpacked source distribution."""
    top = tmp_path_factory.mktemp("sdist")
    subprocess.run(["tar", "-xzf", build(TOP, "sdist", top), "-C", top], check=True)  # Python 3.11.2 has no safe way
    [unpacked] = [path for path in top.iterdir() if path.is_dir()]
    return unpacked


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Returns the wheel that the source distribution builds."""
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
    resources = {
        f"wgsyncd/{name}"
        for name in ours()
        if name.startswith("etc/sql/") or name in ("etc/wgsyncd.toml", "etc/page.css")
    }
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


LOCKS = {"requirements.lock": ("plot", "nexavpn", "test", "build"), "etc/debian/runtime.lock": ("plot",)}


def locked(name: str) -> dict[str, list[str]]:
    """Returns for each package of a lock file its name, version and the hashes of its files, as pip reads them."""
    entries = re.split(r"(?m)^(?=[a-z])", re.sub(r"(?m)^#.*\n", "", (TOP / name).read_text()))
    return {entry.split("==")[0]: re.findall(r"^\S+|--hash=\S+", entry) for entry in entries if entry}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_direct_dependency_is_locked(lock: str) -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    extras = (project["optional-dependencies"][extra] for extra in LOCKS[lock])
    wanted = [Requirement(one) for one in [*project["dependencies"], *(one for extra in extras for one in extra)]]
    found = locked(lock)
    for one in wanted:
        if one.name != "wgsyncd":
            version = found[canonicalize_name(one.name)][0].partition("==")[2]
            assert one.specifier.contains(version), f"{lock}: {one} is locked as {version}"


def test_every_file_of_a_locked_package_has_its_hash_and_no_lock_names_a_host() -> None:
    for lock in (*LOCKS, "etc/debian/build.lock"):
        for name, entry in locked(lock).items():
            assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", " ".join(entry)), f"{lock}: {name}"
        assert "://" not in (TOP / lock).read_text()


def test_the_locks_agree() -> None:
    """The Debian package runs with the packages that the tests used. Its build uses them too."""
    everything = locked("requirements.lock")
    build, runtime = locked("etc/debian/build.lock"), locked("etc/debian/runtime.lock")
    for one in (build, runtime):
        assert {name: everything[name] for name in one} == one
    assert "pytest" not in {**build, **runtime}


def test_the_command_that_installs_an_extra_takes_the_versions_of_the_project() -> None:
    """A wgsyncd from the Debian package proposes Debian's libraries, which etc/debian/control recommends."""
    extras = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    told = shlex.split(install_command("nexavpn"))
    assert told[:4] == [sys.executable, "-m", "pip", "install"]
    assert told[4:] == extras["nexavpn"]
    [recommended] = re.findall(r"^Recommends: (.+)$", (TOP / "etc/debian/control").read_text(), re.MULTILINE)
    in_package = (
        "from wgsyncd.config import resources as r; from pathlib import Path; r.PACKAGED = Path(r.__file__).parent"
    )
    argv = [sys.executable, "-c", f"{in_package}; print(r.install_command('nexavpn'))"]
    done = subprocess.run(argv, cwd=TOP, capture_output=True, text=True, check=True)
    apt, packages = done.stdout.split()[:4], done.stdout.split()[4:]
    assert apt == ["apt-get", "install", "-y", "--no-install-recommends"]
    assert packages and set(packages) <= set(recommended.split(", "))
