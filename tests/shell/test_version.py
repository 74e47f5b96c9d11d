"""The version comes from git: each tree builds, and each commit's version is above the one before."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.version import Version

import wgsyncd

TOP = Path(__file__).resolve().parent.parent.parent
NO_GIT = "0.1.0.dev0"  # the version of a tree without git
SOMEBODY = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org"}  # fmt: skip


def git(tree: Path, *arguments: str) -> str:
    env = {**os.environ, **SOMEBODY, "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(["git", *arguments], cwd=tree, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(tree: Path) -> str:
    """Makes one more commit and returns its short hash."""
    git(tree, "commit", "--quiet", "--allow-empty", "--message", "a change")
    return git(tree, "rev-parse", "--short=9", "HEAD")


def hatchling(tree: Path, *arguments: str, **env: str) -> str:
    """Returns the output of the build backend for a tree."""
    argv = [sys.executable, "-m", "hatchling", *arguments]
    done = subprocess.run(argv, cwd=tree, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def version(tree: Path, **env: str) -> str:
    return hatchling(tree, "version", **env)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Returns a repository with two commits and the files that a build needs."""
    tree = tmp_path / "tree"
    files = ("pyproject.toml", "README.md", "LICENSE", ".gitignore", "wgsyncd/__init__.py", "etc/wgsyncd.toml")
    for name in (*files, "etc/page.css"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, tree / name)
    shutil.copytree(TOP / "etc/sql", tree / "etc/sql")
    git(tree, "init", "--quiet", "--initial-branch=main")
    git(tree, "add", ".")
    commit(tree)
    commit(tree)
    return tree


def test_each_commit_is_above_the_one_before_up_to_the_release_and_beyond(tree: Path) -> None:
    before = version(tree)
    found = [before]
    for _ in range(9):
        last = commit(tree)
        found.append(version(tree))
    assert found[-1] == f"0.1.0.dev11+g{last}"
    git(tree, "tag", "--annotate", "v0.1.0", "--message", "the release")
    found.append(version(tree))
    assert found[-1] == "0.1.0"
    commit(tree)
    found.append(version(tree))
    assert found[-1].startswith("0.1.1.dev1+g")
    assert sorted(set(found), key=Version) == found


def test_a_change_that_is_not_committed_is_seen(tree: Path) -> None:
    (tree / "README.md").write_text("changed")
    assert re.fullmatch(r"0\.1\.0\.dev2\+g[0-9a-f]+\.d20\d{6}", version(tree))


def test_a_shallow_clone(tree: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{tree}", "shallow")
    assert version(tmp_path / "shallow") == f"0.1.0.dev1+g{git(tree, 'rev-parse', '--short=9', 'HEAD')}"


def test_a_copy_without_git_also_inside_another_repository(tree: Path, tmp_path: Path) -> None:
    shutil.rmtree(tree / ".git")
    assert version(tree) == NO_GIT
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    assert version(tree) == NO_GIT


def test_a_machine_without_the_program_git(tree: Path, tmp_path: Path) -> None:
    assert version(tree, PATH=str(tmp_path)) == NO_GIT


def test_a_clone_of_another_user(tree: Path) -> None:
    """Git refuses to read the tree of another user. A build as root must work all the same."""
    env = {**os.environ, "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    refused = subprocess.run(["git", "status"], cwd=tree, env=env, capture_output=True, text=True, check=False)
    assert "dubious ownership" in refused.stderr
    found = version(tree, GIT_TEST_ASSUME_DIFFERENT_OWNER="1", GIT_CONFIG_GLOBAL=os.devnull)
    assert found in (NO_GIT, f"0.1.0.dev2+g{git(tree, 'rev-parse', '--short=9', 'HEAD')}")


def test_an_sdist_keeps_its_version_and_the_program_says_it(tree: Path, tmp_path: Path) -> None:
    expected = version(tree)
    hatchling(tree, "build", "-t", "sdist", "-d", str(tmp_path / "out"))
    subprocess.run(["tar", "-xzf", next((tmp_path / "out").glob("*.tar.gz")), "-C", tmp_path], check=True)
    unpacked = tmp_path / f"wgsyncd-{expected}"
    assert version(unpacked) == expected
    hatchling(unpacked, "build", "-t", "wheel", "-d", str(tmp_path / "out"))
    with zipfile.ZipFile(next((tmp_path / "out").glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    argv = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'installed')!r});"
            "import wgsyncd; print(wgsyncd.__version__)"]  # fmt: skip
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip() == expected


def test_a_tree_that_was_never_built_has_no_version(tree: Path) -> None:
    argv = [sys.executable, "-c", "import wgsyncd; print(wgsyncd.__version__)"]
    said = subprocess.run(argv, cwd=tree, capture_output=True, text=True, check=True).stdout.strip()
    assert said == "0+unknown"


def test_the_fallback_names_the_first_release_of_the_changelog() -> None:
    heading = next(line for line in (TOP / "CHANGELOG.md").read_text().splitlines() if line.startswith("## "))
    tags = "" if not (TOP / ".git").exists() else git(TOP, "-c", "safe.directory=*", "tag", "--list", "v*")
    assert tags or heading == f"## {Version(NO_GIT).base_version} (unreleased)"
    assert f'fallback-version = "{NO_GIT}"' in (TOP / "pyproject.toml").read_text()


def test_this_installation_knows_its_version() -> None:
    assert Version(wgsyncd.__version__) > Version("0.0")
