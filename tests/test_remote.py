"""A real MLflow server in place of the embedded store: the same commands, and a clear word when it is gone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from conftest import make_project, run_script

pytestmark = pytest.mark.slow

QUICK = [
    word
    for text in (
        "iris.evaluate.resamples=100",
        "iris.model.params.n_estimators=10",
        "iris.split.folds=2",
    )
    for word in ("--set", text)
]


class Server:
    "An `mlflow server` of our own on a free port of this machine."

    def __init__(self, folder: Path):
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri, self.log = f"http://127.0.0.1:{self.port}", folder / "log.txt"
        off = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        words = ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}", "--workers", "1"]
        words += ["--artifacts-destination", str(folder / "artifacts")]
        words += ["--host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *words],
                cwd=folder,
                env={**os.environ, **off},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait()

    def wait(self, seconds: float = 120) -> None:
        "Until it answers; a server that died says why."
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                with urlopen(f"{self.uri}/health", timeout=2) as answer:  # noqa: S310  our own
                    if answer.status == 200:
                        return
            except (URLError, OSError):
                time.sleep(0.1)  # between two questions, not instead of one
        raise AssertionError(self.log.read_text()[-3000:])

    def stop(self) -> None:
        "End it and the workers it started, and nothing else."
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(timeout=20)


LIGHT = """
import json, sys
for name in ("mlflow", "sklearn", "pandas"):
    sys.modules[name] = None
from rf_mlops import load
model = load(sys.argv[1])
print(json.dumps([model.version, model.predict_proba([[6.0, 2.7, 5.1, 1.6]]).tolist()]))
"""


def ask(reference: str, cwd: Path, env: dict) -> list:
    "Version and probabilities from a process in which MLflow cannot be imported."
    words = [sys.executable, "-c", LIGHT, reference]
    found = subprocess.run(
        words, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_a_server_serves_as_the_store(tmp_path):
    "Train twice, list, load without MLflow, roll back; then the server stops."
    project = make_project(tmp_path / "project")
    server = Server(tmp_path / "server")
    env = {"RF_MLOPS_TRACKING__URI": server.uri, "RF_MLOPS_PROJECT": str(project)}
    try:
        for seed in ("3", "7"):
            done = run_script("train", "iris", "--seed", seed, *QUICK, cwd=project, env=env)
            assert done.returncode == 0 and "promoted" in done.stdout, done.stdout + done.stderr
        again = run_script("train", "iris", "--seed", "7", *QUICK, cwd=project, env=env)
        assert again.returncode == 0 and "unchanged" in again.stdout, again.stdout + again.stderr

        listed = run_script("models", "iris", cwd=project, env=env)
        assert listed.returncode == 0 and "v2" in listed.stdout and "champion" in listed.stdout
        assert not (project / "mlruns" / "mlflow.db").exists(), "nothing is kept here by mistake"
        assert not (project / "mlruns" / "artifacts").exists()

        version, champion = ask("iris@champion", project, env)
        assert version == 2
        assert ask("iris/1", project, env)[0] == ask("iris@previous", project, env)[0] == 1
        absent = run_script("promote", "iris", "9", cwd=project, env=env)
        assert absent.returncode == 2 and "no version 9" in absent.stderr

        back = run_script("rollback", "iris", cwd=project, env=env)
        assert back.returncode == 0 and "v1 is champion again" in back.stdout, back.stderr
        version, former = ask("iris@champion", project, env)
        assert version == 1 and former != champion
        refused = ["--set", "iris.gates.minimum.accuracy=0.99", "--seed", "5"]
        done = run_script("train", "iris", *refused, cwd=project, env=env)
        assert done.returncode == 3 and "refused" in done.stdout
        assert ask("iris", project, env)[0] == 1
    finally:
        server.stop()

    for words in (["models", "iris"], ["rollback", "iris"], ["promote", "iris"]):
        begin = time.monotonic()
        gone = run_script(*words, cwd=project, env=env)
        assert gone.returncode == 2, gone.stdout + gone.stderr
        assert server.uri in gone.stderr and "out of reach" in gone.stderr
        assert "Traceback" not in gone.stderr
        assert time.monotonic() - begin < 60, "somebody waits for this"
    gone = run_script("train", "iris", *QUICK, cwd=project, env=env)
    assert gone.returncode in (1, 2)
    assert server.uri in gone.stdout + gone.stderr
    assert "out of reach" in gone.stdout + gone.stderr
    assert "Traceback" not in gone.stdout + gone.stderr
    words = [sys.executable, "-c", "from rf_mlops import load; load('iris')"]
    light = subprocess.run(
        words, cwd=project, env={**os.environ, **env}, capture_output=True, text=True
    )
    assert light.returncode == 1 and "out of reach" in light.stderr and server.uri in light.stderr
