"""Keep mlruns/ between retrainings on GitHub: `find` the newest one kept, `check` its size before keeping it.

The workflow's own steps download and upload it; these are the two decisions they need.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "rf-mlops-state"
NEEDED = ("GITHUB_REPOSITORY", "GITHUB_TOKEN", "GITHUB_OUTPUT", "GITHUB_REF_NAME")


def get(path: str) -> dict:
    "One answer of GitHub's API about this repository."
    api = os.environ.get("GITHUB_API_URL", "https://api.github.com")
    url = f"{api}/repos/{os.environ['GITHUB_REPOSITORY']}{path}"
    # The address is GitHub's own, from the workflow's environment, so any scheme it has is right (S310).
    headers = {"Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.load(answer)


def find() -> int:
    """Write `run-id` (empty: nothing kept yet) and `keep` (may this run replace it?) for the next steps.

    Only the default branch's own runs count and keep: a pull request, least of all one from a fork,
    must not put forward a champion. Fails when GitHub does not answer: starting a new ledger by
    mistake would lose the old one.
    """
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        sys.exit(f"state-find is for a GitHub workflow: {', '.join(missing)} not set.")
    try:
        repo, listed = get(""), get(f"/actions/artifacts?name={NAME}&per_page=100")
    except (OSError, ValueError) as error:
        sys.exit(
            f"GitHub did not say which state is the newest ({error}). Nothing was changed; run this again."
        )
    ours = [
        artifact
        for artifact in listed["artifacts"]
        if not artifact["expired"]
        and artifact["workflow_run"]["head_branch"] == repo["default_branch"]
        and artifact["workflow_run"]["head_repository_id"] == repo["id"]
    ]
    newest = max(ours, key=lambda artifact: artifact["created_at"], default=None)
    run_id = newest["workflow_run"]["id"] if newest else ""
    keep = os.environ["GITHUB_REF_NAME"] == repo["default_branch"]
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as out:
        out.write(f"run-id={run_id}\nkeep={str(keep).lower()}\n")
    print(
        f"mlruns/ comes from run {run_id}."
        if newest
        else "No state kept yet: this run starts a new ledger."
    )
    return 0


def check() -> int:
    "1 if mlruns/ is larger than STATE_LIMIT_MB (default 2000), with what to do about it."
    limit = float(os.environ.get("STATE_LIMIT_MB") or 2000)
    size = sum(p.stat().st_size for p in (ROOT / "mlruns").rglob("*") if p.is_file()) / 1e6
    if size <= limit:
        print(f"mlruns/ holds {size:,.1f} MB of at most {limit:,.0f}.")
        return 0
    print(
        f"mlruns/ holds {size:,.1f} MB, more than the {limit:,.0f} that are kept between runs; it was not kept."
    )
    print(
        "Use an MLflow server (the secret RF_MLOPS_TRACKING__URI), or delete old runs with `mlflow gc`."
    )
    return 1


if __name__ == "__main__":
    commands = {"find": find, "check": check}
    if sys.argv[1:] not in ([name] for name in commands):
        sys.exit("usage: state.py find | check")
    sys.exit(commands[sys.argv[1]]())
