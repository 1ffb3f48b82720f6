"""Servers under measurement: ours and MLflow's over the same champion, started, asked and ended."""

import os
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING

from common import ended, free_port, in_turn, started, wait_for

if TYPE_CHECKING:
    from pandas import DataFrame

CSV, JSON, PARQUET = "text/csv", "application/json", "application/vnd.apache.parquet"
SINK = bytearray(1 << 16)


@dataclass(frozen=True)
class Server:
    "A server that runs: its name in the table, its process, one connection, and where it predicts."

    name: str
    pid: int
    line: HTTPConnection
    path: str


@dataclass(frozen=True)
class Question:
    "One POST."

    body: bytes
    kind: str
    accept: str = JSON
    query: str = ""


@contextmanager
def ours() -> Iterator[Server]:
    "Our server, ready."
    process, (address,) = started("serve", "--port", "0")
    try:
        wait_for(f"{address}/ready", process)
        line = HTTPConnection(address.removeprefix("http://"), timeout=120)
        yield Server("rf-mlops serve", process.pid, line, "/predict")
    finally:
        ended(process)


@contextmanager
def mlflows(name: str, model: Path) -> Iterator[Server]:
    "MLflow's server over a logged model, ready; it and what it starts are a process group of their own."
    scripts, port = sysconfig.get_path("scripts"), free_port()
    words = [f"{scripts}/mlflow", "models", "serve", "-m", str(model), "--env-manager", "local"]
    words += ["-h", "127.0.0.1", "-p", str(port), "-w", "1"]
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"  # it looks for uvicorn there
    env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PATH": path}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(words, stdout=quiet, stderr=quiet, env=env, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", process)
        line = HTTPConnection("127.0.0.1", port, timeout=120)
        yield Server(name, process.pid, line, "/invocations")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def save_models(folder: Path, few: "DataFrame") -> dict[str, Path]:
    "The champion for MLflow's server: its forest as scikit-learn's, trained once more, and its graph."
    import mlflow.onnx
    import mlflow.sklearn
    import onnx

    from rf_mlops import load
    from rf_mlops.data import ingest
    from rf_mlops.settings import load_case, load_settings
    from rf_mlops.train import train

    case, graph = load_case("iris"), onnx.load_from_string(load("iris@champion").bundle.graph)
    rows = ingest(case, load_settings())
    forest = train(case, rows.schema, rows.frame).pipeline[1:]  # `prepare` is ours alone
    del graph.graph.output[
        1:
    ]  # MLflow answers with as many numbers a row in each output: the label
    signed = {"signature": mlflow.models.infer_signature(few), "pip_requirements": []}
    trusted = ["sklearn.tree._tree.Tree"]  # in skops, the default format
    mlflow.sklearn.save_model(forest, folder / "forest", skops_trusted_types=trusted, **signed)
    mlflow.onnx.save_model(graph, folder / "graph", **signed)
    return {"MLflow, scikit-learn": folder / "forest", "MLflow, ONNX": folder / "graph"}


def asked(server: Server, question: Question) -> HTTPResponse:
    "The answer to a question, unread. Stops at any but a good one."
    headers = {"Content-Type": question.kind, "Accept": question.accept}
    server.line.request("POST", server.path + question.query, question.body, headers)
    answer = server.line.getresponse()
    if answer.status != 200:
        raise SystemExit(f"{server.name}: {answer.status} {answer.read(500)!r}")
    return answer


def ask(server: Server, question: Question) -> None:
    "Ask, and read the answer to nowhere."
    answer = asked(server, question)
    while answer.readinto(SINK):
        pass


def ask_in_turn(runs: int, *pairs: tuple[Server, Question]) -> list[float]:
    "Median seconds of each; connections are new, as the servers cut those that are still for 5 s."
    for server, _ in pairs:
        server.line.close()  # the next request opens it
    return in_turn(runs, *(partial(ask, *pair) for pair in pairs))
