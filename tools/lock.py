"""Write requirements.lock from pyproject.toml, or with --check say whether it is current.

One file serves Python 3.11 to 3.13: every version with its hashes, and no URL, so that it installs
from whichever registry a machine is set up to use.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from difflib import unified_diff
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
UV = Path(sysconfig.get_path("scripts")) / "uv"


def compile_to(out: Path, *options: str) -> None:
    "Resolve pyproject.toml into `out`. The versions `out` already holds are kept where they still fit."
    command = [UV, "pip", "compile", "pyproject.toml", "--extra", "dev", "--universal", "--quiet"]
    command += ["--python-version", "3.11", "--generate-hashes", "--no-emit-index-url"]
    command += ["--custom-compile-command", "make lock", "--output-file", out, *options]
    env = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL)


def check() -> int:
    "0 if compiling again changes nothing; the difference and 1 if it does."
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / LOCK.name
        shutil.copy(LOCK, copy)
        compile_to(copy)
        old, new = (p.read_text().splitlines() for p in (LOCK, copy))
    diff = list(
        unified_diff(
            old, new, "requirements.lock", "what pyproject.toml asks for", n=0, lineterm=""
        )
    )
    if not diff:
        print("requirements.lock is current.")
        return 0
    print(*diff[:20], sep="\n")
    print(
        "requirements.lock does not fit pyproject.toml any more. Run `make lock` and commit the result."
    )
    return 1


if __name__ == "__main__":
    try:
        sys.exit(check() if "--check" in sys.argv[1:] else compile_to(LOCK, *sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"uv could not resolve pyproject.toml (exit code {error.returncode}); its reason is above."
        )
