"""Say whether the notebooks are clean and rf_mlops/ is what they export, changing nothing.

Both are tried in a copy of the project, because nbdev-export and nbdev-clean write in place and
a check should not.
"""

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = Path(sysconfig.get_path("scripts"))


def snapshot(root: Path) -> dict[str, bytes]:
    "The notebooks and the modules under `root`: relative path → bytes."
    found = [*(root / "nbs").rglob("*.ipynb"), *(root / "rf_mlops").rglob("*.py")]
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in found
        if ".ipynb_checkpoints" not in p.parts
    }


def changed_by(command: str, root: Path) -> list[str]:
    "The files that `command` changes, adds or removes under `root`."
    before = snapshot(root)
    done = subprocess.run([SCRIPTS / command], cwd=root, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stdout}{done.stderr}")
    after = snapshot(root)
    return sorted(name for name in before | after if before.get(name) != after.get(name))


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / ROOT.name
        skip = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        for name in ("nbs", "rf_mlops"):
            shutil.copytree(ROOT / name, copy / name, ignore=skip)
        shutil.copy(ROOT / "pyproject.toml", copy)
        stale = changed_by("nbdev-export", copy)
        dirty = changed_by("nbdev-clean", copy)
    for name in stale:
        print(f"{name} is not what the notebooks export.")
    for name in dirty:
        print(f"{name} is not clean: it holds metadata or counters that change with every run.")
    if stale or dirty:
        print(
            "Run `make export` and commit the result. An edit in rf_mlops/ belongs in nbs/ instead."
        )
        return 1
    print("The notebooks are clean and rf_mlops/ is what they export.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
