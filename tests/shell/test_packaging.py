"""What `pip install` takes along."""

from __future__ import annotations

import tomllib
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent


def test_every_package_and_every_shipped_file_is_installed() -> None:
    tool = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["setuptools"]
    ours = {".".join(p.parent.relative_to(TOP).parts) for p in TOP.glob("wgsyncd/**/*.py")}
    for_admins = (
        "etc/grafana",
        "etc/prometheus",
        "etc/debian",
        "etc/pictures",
    )  # taken from the checkout, or from the Debian package
    files = [p for p in TOP.glob("etc/**/*") if p.is_file()]
    folders = {p.parent.relative_to(TOP) for p in files if not p.relative_to(TOP).as_posix().startswith(for_admins)}
    shipped = {"wgsyncd." + ".".join(folder.parts) for folder in folders}
    assert ours | shipped == set(tool["packages"])
    for package in shipped:
        folder = TOP / package.removeprefix("wgsyncd.").replace(".", "/")
        endings = {f"*{p.suffix}" for p in folder.iterdir() if p.is_file()}
        assert endings == set(tool["package-data"][package])


def test_every_direct_dependency_is_locked() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    names = {w.split(">")[0].strip().lower().replace("_", "-") for w in wanted}
    lines = (TOP / "requirements.lock").read_text().splitlines()
    locked = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert names <= locked
