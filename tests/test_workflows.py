"""The GitHub workflows do what a laptop can do: every command in them is tried, not only read."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.y*ml"))
SCRIPTS = Path(sysconfig.get_path("scripts"))
COMMANDS = {"run", "train", "models", "promote", "rollback"}

# Tried by other means: the tests run inside the tests would never end.
NOT_RUN = {"make test SLOW=1 COVERAGE=1"}
SLOW = {"make run", "make check"}


def load(path: Path) -> dict:
    # "pure": `on` stays a word, as it is for GitHub, and is not read as true.
    return YAML(typ="safe", pure=True).load(path)


def jobs() -> list[tuple[str, dict]]:
    "Every job of every workflow: (file/name, job)."
    return [
        (f"{path.name}/{name}", job)
        for path in WORKFLOWS
        for name, job in load(path)["jobs"].items()
    ]


def steps() -> list[tuple[str, dict]]:
    "Every step of every job: (file/job, step)."
    return [(name, step) for name, job in jobs() for step in job.get("steps", [])]


def run_lines() -> dict[str, dict]:
    "Every distinct `run:` → the environment its step sets."
    return {step["run"]: step.get("env", {}) for _, step in steps() if "run" in step}


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def clean_env(**values: str) -> dict[str, str]:
    "The environment without what an outer `make` or an outer workflow left in it."
    outer = (
        "MAKE",
        "MFLAGS",
        "GITHUB_",
        "CASE",
        "SIZE",
        "SEED",
        "SUMMARY",
        "SLOW",
        "COVERAGE",
        "RF_MLOPS_",
    )
    return {k: v for k, v in os.environ.items() if not k.startswith(outer)} | values


def run(command: str, **values: str) -> subprocess.CompletedProcess:
    words = (
        [*command.split(), f"PYTHON={sys.executable}"]
        if command.startswith("make ")
        else command.split()
    )
    return subprocess.run(
        words, cwd=ROOT, env=clean_env(**values), capture_output=True, text=True, timeout=900
    )


def test_there_are_workflows():
    assert {path.name for path in WORKFLOWS} >= {"ci.yml", "retrain.yml"}


@pytest.mark.parametrize("line", run_lines())
def test_a_run_line_is_one_command_of_ours(line: str):
    word, name, *rest = line.split()
    assert "\n" not in line and not re.search(r"[;&|<>`$(){}]", line), (
        "one command, and nothing of the shell"
    )
    if word == "make":
        assert name in targets()
        assert all(re.fullmatch(r"[A-Z]+=\w+", option) for option in rest), (
            "a second target, or no option"
        )
    else:
        assert word == "rf-mlops" and name in COMMANDS


def test_every_command_is_tried_by_a_test():
    tried = NOT_RUN | SLOW | {"make state-find", "make state-check"}
    assert set(run_lines()) - tried == set(), "add a test that runs it"


@pytest.mark.parametrize(
    "name, step", steps(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_actions_are_pinned_by_commit(name: str, step: dict):
    if "uses" in step:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), f"{name}: {step['uses']}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_pin_says_its_version_and_rights_are_given_job_by_job(path: Path):
    for line in path.read_text().splitlines():
        assert "@" not in line or "uses:" not in line or re.search(r"# v\d+\.\d+\.\d+$", line), line
    flow = load(path)
    assert flow["permissions"] == {}, "nothing by default; each job names what it needs"
    assert all("permissions" in job for job in flow["jobs"].values())


@pytest.mark.parametrize(
    "command",
    ["check-jsonschema --builtin-schema vendor.github-workflows", "zizmor --offline --no-progress"],
    ids=["schema", "security"],
)
def test_the_checkers_agree(command: str):
    tool, *options = command.split()
    done = subprocess.run([SCRIPTS / tool, *options, *WORKFLOWS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# --- make state-find: which mlruns/ goes on --------------------------------------------------------


def artifact(run_id: int, created: str, branch="main", repo=7, expired=False) -> dict:
    origin = {"id": run_id, "head_branch": branch, "head_repository_id": repo}
    return {"created_at": created, "expired": expired, "workflow_run": origin}


@pytest.fixture
def github():
    "A server that answers as GitHub's API does, with whatever artifacts a test puts in."
    found: list[dict] = []

    class Api(BaseHTTPRequestHandler):
        def do_GET(self):
            answer = (
                {"artifacts": found}
                if "artifacts" in self.path
                else {"id": 7, "default_branch": "main"}
            )
            if "rf-mlops-state" not in self.path and "artifacts" in self.path:
                answer = {"artifacts": []}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def find(
    url: str, tmp_path: Path, branch: str = "main"
) -> tuple[subprocess.CompletedProcess, dict[str, str]]:
    out = tmp_path / "output"
    out.touch()
    env = clean_env(
        GITHUB_API_URL=url,
        GITHUB_REPOSITORY="somebody/rf_mlops",
        GITHUB_TOKEN="a-token",  # noqa: S106 - the server above accepts anything
        GITHUB_OUTPUT=str(out),
        GITHUB_REF_NAME=branch,
    )
    command = [sys.executable, ROOT / "tools/state.py", "find"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    return done, dict(line.split("=", 1) for line in out.read_text().splitlines())


def test_the_first_retraining_finds_no_state_and_keeps_its_own(github, tmp_path):
    done, output = find(github[1], tmp_path)
    assert done.returncode == 0, done.stderr
    assert output == {"run-id": "", "keep": "true"}


def test_the_newest_state_of_the_default_branch_goes_on(github, tmp_path):
    github[0].extend(
        [
            artifact(1, "2026-01-05T04:40:00Z"),
            artifact(2, "2026-01-12T04:40:00Z"),
            artifact(3, "2026-01-19T04:40:00Z", expired=True),
            artifact(4, "2026-01-20T04:40:00Z", branch="a-change"),
            artifact(
                5, "2026-01-21T04:40:00Z", repo=8
            ),  # a fork whose branch is called main as well
        ]
    )
    assert find(github[1], tmp_path)[1] == {"run-id": "2", "keep": "true"}


def test_a_pull_request_reads_the_state_but_keeps_none(github, tmp_path):
    github[0].append(artifact(1, "2026-01-05T04:40:00Z"))
    assert find(github[1], tmp_path, branch="12/merge")[1] == {"run-id": "1", "keep": "false"}


def test_no_answer_is_a_failure_and_not_a_new_ledger(tmp_path):
    done, output = find("http://127.0.0.1:9", tmp_path)
    assert done.returncode == 1 and output == {}
    assert "Nothing was changed" in done.stderr and "Traceback" not in done.stderr


def test_state_find_away_from_github_says_so():
    done = subprocess.run(
        [sys.executable, ROOT / "tools/state.py", "find"],
        env=clean_env(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "GITHUB_TOKEN" in done.stderr


def test_a_state_that_is_too_large_is_refused_with_the_remedy():
    command = [sys.executable, ROOT / "tools/state.py", "check"]
    fine = subprocess.run(command, env=clean_env(), capture_output=True, text=True)
    assert fine.returncode == 0, fine.stdout
    large = subprocess.run(
        command, env=clean_env(STATE_LIMIT_MB="0.00001"), capture_output=True, text=True
    )
    assert large.returncode == 1 and "RF_MLOPS_TRACKING__URI" in large.stdout


# --- the commands themselves -----------------------------------------------------------------------


@pytest.mark.slow
def test_make_state_find_and_check(github, tmp_path):
    out = tmp_path / "output"
    done = run(
        "make state-find",
        GITHUB_API_URL=github[1],
        GITHUB_REPOSITORY="somebody/rf_mlops",
        GITHUB_TOKEN="a-token",  # noqa: S106
        GITHUB_OUTPUT=str(out),
        GITHUB_REF_NAME="main",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "keep=true" in out.read_text()
    done = run("make state-check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_make_check():
    done = run("make check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_make_run_writes_the_table_and_the_reports(tmp_path):
    summary = tmp_path / "summary.md"
    done = run(
        "make run",
        CASE="",
        SIZE="small",
        SEED="",
        SUMMARY=str(summary),
        NO_PROMOTE="1",
        RF_MLOPS_TRACKING__URI="",  # as on GitHub when the secret is not set
        RF_MLOPS_PATHS__MLRUNS=str(tmp_path / "mlruns"),
        RF_MLOPS_PATHS__REPORTS=str(tmp_path / "reports"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| iris" in summary.read_text()
    assert (tmp_path / "reports/index.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["$(touch broken-out)", "iris; touch broken-out", "$(shell touch broken-out)"]
)
def test_an_input_is_never_run_as_code(case: str, tmp_path):
    done = run("make run", CASE=case, RF_MLOPS_PATHS__MLRUNS=str(tmp_path / "mlruns"))
    assert done.returncode != 0 and not (ROOT / "broken-out").exists()
