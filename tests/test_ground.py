"""The files around the package agree with each other."""

import configparser
import os
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import rf_mlops

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
PYTHONS = ("3.11", "3.12", "3.13")


def locked() -> dict[str, set[str]]:
    "Every locked package → its versions (there can be one per Python)."
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^ ;\\]+)", LOCK, re.M):
        versions.setdefault(canonicalize_name(name), set()).add(version)
    return versions


def declared() -> list[Requirement]:
    "Every dependency of pyproject.toml and its extras, but for the extras that name each other."
    extras = PROJECT["optional-dependencies"].values()
    found = [Requirement(text) for group in (PROJECT["dependencies"], *extras) for text in group]
    return [
        need for need in found if canonicalize_name(need.name) != canonicalize_name(PROJECT["name"])
    ]


def test_settings_and_pyproject_agree():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "settings.ini")
    assert settings["project"]["name"] == PROJECT["name"] == rf_mlops.__name__
    assert PROJECT["scripts"] == {"rf-mlops": "rf_mlops.cli:main"}
    params = (ROOT / settings["paths"]["params"]).read_text()
    assert re.search(rf"^  {settings['project']['default_case']}:", params, re.M)


def test_the_entry_point_exists():
    from rf_mlops.cli import main

    assert callable(main)


def test_one_python_range_everywhere():
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert [v for v in (f"3.{minor}" for minor in range(9, 17)) if v in allowed] == list(PYTHONS)
    assert "(3, 11) <= sys.version_info < (3, 14)" in (ROOT / "Makefile").read_text()
    assert (
        f"python: {list(PYTHONS)}".replace("'", '"')
        in (ROOT / ".github/workflows/ci.yml").read_text()
    )


@pytest.mark.parametrize("need", declared(), ids=str)
def test_the_lock_holds_what_pyproject_bounds(need: Requirement):
    versions = locked().get(canonicalize_name(need.name), set())
    assert versions, f"{need.name} is not in requirements.lock: run `make lock`"
    assert all(need.specifier.contains(version, prereleases=True) for version in versions)


def test_the_lock_has_hashes_and_no_address():
    assert "://" not in LOCK, "an address would tie everybody to one registry"
    blocks = re.split(r"\n(?=\w)", LOCK)[1:]  # the first is the header
    assert len(blocks) > 100
    assert [block.split("=")[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert re.search(r"^uv==", LOCK, re.M), "the Makefile takes uv itself from the lock"


def test_the_licence_is_apache():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert PROJECT["license"] == "Apache-2.0"


@pytest.mark.parametrize(
    "name",
    ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "reports/README.md", "mlruns/README.md"],
)
def test_every_make_target_that_is_named_exists(name: str):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    text = (ROOT / name).read_text()
    named = re.findall(r"(?:^|`|&& )make ([a-z][a-z-]*)", text, re.M)
    assert set(named) <= targets
    assert named or name not in ("README.md", "CONTRIBUTING.md")


def test_every_target_is_explained_and_phony():
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):(.*)", text, re.M)
    assert [name for name, rest in targets if "##" not in rest] == [], (
        "`make help` would not list it"
    )
    phony = re.search(r"^\.PHONY: (.*)", text, re.M)
    assert phony and set(phony[1].split()) == {name for name, _ in targets}


def test_ci_run_is_executable_and_runs_everything():
    path = ROOT / ".ci/run"
    assert os.access(path, os.X_OK)
    assert "make test SLOW=1" in path.read_text()
