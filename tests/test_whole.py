"""The whole of it: papermill alone, Jupyter alone, a wheel alone, MLflow's own client, and one answer by every path."""

import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import nbformat
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import ROOT, free_port, make_project, running

from rf_mlops import load, registry, runs
from rf_mlops.bundle import build
from rf_mlops.data import fingerprint, ingest
from rf_mlops.evaluate import METRICS, measure
from rf_mlops.predictor import open_bundle
from rf_mlops.registry import compile_evidence, judge
from rf_mlops.settings import load_case, load_settings
from rf_mlops.tracking import open_store
from rf_mlops.train import answers, train

QUICK = "iris.evaluate.resamples=100 iris.model.params.n_estimators=10 iris.split.folds=2"
NOTEBOOKS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "nbs").rglob("*.ipynb")
    if not any(part.startswith((".", "_")) for part in path.relative_to(ROOT).parts)
)


def python(code: str, **env: str) -> Any:
    "What a fresh Python prints as JSON in its last line."
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **env}
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])


def source_tree(folder: Path) -> Path:
    "A copy of the repository's files as git would check them out, uncommitted changes included."
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Path:
    "The repository in another folder, where notebooks may write what they like."
    return source_tree(tmp_path_factory.mktemp("checkout") / "rf_mlops")


# --- papermill and Jupyter without us ----------------------------------------------------------------


@pytest.mark.parametrize(
    "place", ["elsewhere", pytest.param("the project", marks=pytest.mark.slow)]
)
def test_plain_papermill_runs_the_notebook(trained_copy, tmp_path, monkeypatch, place):
    "The `papermill` command, without our runner: the same model, so `unchanged`."
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if place == "the project":
        monkeypatch.delenv("RF_MLOPS_PROJECT")
    else:
        monkeypatch.chdir(elsewhere)
    notebook = trained_copy / "nbs" / "runs" / "train.ipynb"
    out = tmp_path / "out.ipynb"
    words = ["-m", "papermill", notebook, out, "-p", "case", "iris", "-p", "promote", "False"]
    found = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    record = runs.records_of(nbformat.read(out, as_version=4))
    assert (record["verdict"], record["version"]) == ("unchanged", 1)
    monkeypatch.setenv("RF_MLOPS_PROJECT", str(trained_copy))
    run = open_store().get_run(record["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert list(elsewhere.iterdir()) == [], "nothing is left where somebody happened to be"


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_runs_all_in_jupyter(checkout, monkeypatch, name):
    "A real kernel in the notebook's own folder, as JupyterLab's Run All does it."
    monkeypatch.delenv("RF_MLOPS_PROJECT", raising=False)
    import nbclient

    path = checkout / name
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    ran = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    assert all(c.execution_count for c in ran)


# --- the wheel ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    "The wheel, built from a copy of the sources."
    folder = tmp_path_factory.mktemp("wheel")
    tree = source_tree(folder / "source")
    words = ["-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", tree]
    found = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    (built,) = (folder / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_what_it_needs(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    runs_ = {path.name for path in (ROOT / "nbs" / "runs").glob("*.ipynb")}
    pages = {path.name for path in (ROOT / "nbs" / "pages").glob("*.ipynb")}
    asset_folder = ROOT / "rf_mlops" / "assets"
    assets = {
        p.relative_to(asset_folder).as_posix() for p in asset_folder.rglob("*.*") if p.is_file()
    }
    modules = {path.name for path in (ROOT / "rf_mlops").glob("*.py")}
    assert {f"rf_mlops/notebooks/{name}" for name in runs_} <= names
    assert {f"rf_mlops/notebooks/pages/{name}" for name in pages} <= names
    assert {f"rf_mlops/assets/{name}" for name in assets if "__pycache__" not in name} <= names
    assert {f"rf_mlops/{name}" for name in modules} | {"rf_mlops/py.typed"} <= names
    outside = {n for n in names if not n.startswith(("rf_mlops/", "rf_mlops-"))}
    assert outside == set(), "a wheel brings its package and nothing else"
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_a_wheel_installed_elsewhere_trains(wheel, tmp_path):
    """In a fresh environment the package comes from the wheel, and two files make a project.

    The environment sees the libraries of the present one by a path; an editable installation is not
    followed through it, which the test proves first.
    """
    import sysconfig
    import venv

    home = tmp_path / "environment"
    venv.create(home, with_pip=False)
    inside = home / "bin" / "python"
    ask = [inside, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.check_output(ask, text=True).strip())
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RF_MLOPS", "PYTHON"))}
    env["JUPYTER_PATH"] = str(Path(sysconfig.get_path("data")) / "share" / "jupyter")  # templates
    where = [inside, "-c", "import rf_mlops; print(rf_mlops.__file__)"]
    assert subprocess.run(where, env=env, cwd=tmp_path, capture_output=True).returncode == 1

    words = ["-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", inside]
    subprocess.run([sys.executable, *words, wheel], check=True)
    found = subprocess.check_output(where, env=env, cwd=tmp_path, text=True)
    assert Path(found.strip()).is_relative_to(packages)
    project = tmp_path / "project"
    project.mkdir()
    for name in ("settings.ini", "params.yaml"):
        shutil.copy(ROOT / name, project)
    sets = [word for text in QUICK.split() for word in ("--set", text)]
    command = [home / "bin" / "rf-mlops", "run", *sets]
    done = subprocess.run(command, env=env, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "promoted" in done.stdout
    (record,) = project.glob("reports/iris/*/run.json")
    assert json.loads(record.read_text())["verdict"] == "promoted"
    load_it = "from rf_mlops import load; print(load().predict([[5.1, 3.5, 1.4, 0.2]])[0])"
    answer = subprocess.check_output([inside, "-c", load_it], env=env, cwd=project, text=True)
    assert answer.strip() == "setosa"


# --- the package as a library ------------------------------------------------------------------------


def test_every_step_is_a_function(project):
    "A training without papermill, MLflow or a registry, as README tells it."
    settings, case = load_settings(), load_case("iris")
    rows = ingest(case, settings)
    assert (rows.rows, rows.bad_rows) == (150, 0)
    training = train(case, rows.schema, rows.frame)
    assert training.honest.shape == (150, 3) and not np.isnan(training.honest).any()
    accuracy = measure(METRICS["accuracy"], training.truth, training.honest, case.evaluate)
    assert 0.9 < accuracy.low < accuracy.value < accuracy.high <= 1
    evidence = compile_evidence(training, rows, project / "bundle")
    judgement = judge(case, evidence)
    assert judgement.verdict == "passed" and judgement.metric == accuracy
    model = open_bundle(project / "bundle")
    assert model.bundle.model_hash == evidence.model_hash
    one = {"petal_length": 4.0, "petal_width": 1.0, "sepal_length": 5.0, "sepal_width": 2.5}
    assert model.predict(one).tolist() == ["versicolor"]
    build(training, rows.frame, project / "again")
    assert {p.name: p.read_bytes() for p in (project / "bundle").iterdir()} == {
        p.name: p.read_bytes() for p in (project / "again").iterdir()
    }
    made = {path.name for path in (project / "mlruns").rglob("*") if path.is_file()}
    assert made == {f"{fingerprint(rows.frame).digest}.parquet"}, "no store is begun"


WITHOUT_SKLEARN = """
import csv, json, sys
for name in ("sklearn", "mlflow", "pandas", "lightgbm"):
    sys.modules[name] = None
from rf_mlops import load
content = open(CSV, "rb").read()
truth = [row["species"] for row in csv.DictReader(content.decode().splitlines())]
labels = load("iris@champion").predict(content).tolist()
print(json.dumps([labels, sum(a == b for a, b in zip(labels, truth)) / len(truth)]))
"""


def test_the_champion_is_as_accurate_where_scikit_learn_cannot_be_imported(trained_copy):
    settings, case = load_settings(), load_case("iris")
    rows = ingest(case, settings)
    training = train(case, rows.schema, rows.frame)
    fitted = answers(training.pipeline, rows.schema, rows.frame[rows.schema.names])
    rows.frame.to_csv(trained_copy / "iris.csv", index=False)
    labels, accuracy = python(WITHOUT_SKLEARN.replace("CSV", repr("iris.csv")))
    assert labels == [rows.schema.classes[i] for i in fitted.argmax(1)]
    assert accuracy == METRICS["accuracy"].function(training.truth, fitted)


def test_mlflow_itself_loads_the_champion(trained_copy, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", load_settings().tracking_uri)
    frame = ingest(load_case("iris"), load_settings()).frame.drop(columns="species")
    theirs = mlflow.pyfunc.load_model("models:/iris@champion").predict(frame)
    assert (theirs == load("iris@champion").predict(frame)).all()


# --- every path, one answer --------------------------------------------------------------------------


def parquet(frame: pd.DataFrame) -> bytes:
    "A frame as the bytes of a Parquet file."
    buffer = BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def loaded(unpack: Callable[[pd.DataFrame], Any]) -> Callable[[pd.DataFrame], tuple]:
    "The path through `load('iris@champion')` for a table in some shape."

    def path(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        model, table = load("iris@champion"), unpack(frame)
        return model.predict(table), model.predict_proba(table)

    return path


def in_parts(model, parts: list) -> tuple[np.ndarray, np.ndarray]:
    "Many small questions instead of one."
    labels = np.concatenate([model.predict(part) for part in parts])
    return labels, np.concatenate([model.predict_proba(part) for part in parts])


def compiled_in_the_notebook(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    "A training's own bundle, opened before anybody registers it."
    from tempfile import TemporaryDirectory

    case = load_case("iris")
    rows = ingest(case, load_settings())
    with TemporaryDirectory() as folder:
        build(train(case, rows.schema, rows.frame), rows.frame, Path(folder))
        model = open_bundle(folder)
    return model.predict(frame), model.predict_proba(frame)


def another_process(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    "A process that has neither scikit-learn nor pandas; float32 travels through JSON without loss."
    frame.to_csv("rows.csv", index=False)
    code = """
import json, sys
for name in ("sklearn", "mlflow", "pandas"):
    sys.modules[name] = None
from rf_mlops import load
model, rows = load("iris@champion"), open("rows.csv", "rb").read()
print(json.dumps([model.predict(rows).tolist(), model.predict_proba(rows).tolist()]))
"""
    labels, probabilities = python(code)
    return np.array(labels), np.array(probabilities, dtype=np.float32)


def served(ask: Callable[[str, pd.DataFrame], tuple]) -> Callable[[pd.DataFrame], tuple]:
    "The path over HTTP, to a server of the present project."

    def path(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        with running("serve", "--port", "0", cwd=Path.cwd()) as (_, (address,)):
            return ask(address, frame)

    return path


def posted(address: str, body: bytes, kind: str, accept: str = "application/json") -> bytes:
    "The answer to POST /predict?proba=true."
    headers = {"Content-Type": kind, "Accept": accept}
    with urlopen(Request(f"{address}/predict?proba=true", body, headers)) as answer:  # noqa: S310
        return answer.read()


def from_json(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    "Labels and probabilities of a JSON answer; every number is a float32, or this says so."
    document = json.loads(content)
    exact = np.array(list(document["probabilities"].values())).T
    assert (exact == exact.astype(np.float32)).all()
    return np.array(document["predictions"]), np.ascontiguousarray(exact, dtype=np.float32)


def from_csv(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    "Labels and probabilities of a CSV answer."
    table = pd.read_csv(BytesIO(content), float_precision="round_trip")
    exact = table[[name for name in table if name.startswith("probability_")]].to_numpy()
    assert (exact == exact.astype(np.float32)).all()
    labels = table["prediction"].to_numpy(dtype=object).astype(str)
    return labels, np.ascontiguousarray(exact, dtype=np.float32)


def by_query(address: str, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    "One row at a time by GET /score, which answers codes; the probabilities come from one record each."
    model = load("iris@champion")
    names = dict(zip(model.schema.codes, model.schema.classes, strict=True))
    labels, sure = [], []
    for record in frame.to_dict("records"):
        with urlopen(f"{address}/score?{urlencode(record)}") as answer:  # noqa: S310
            labels.append(names[json.load(answer)[0]])
        sure.append(from_json(posted(address, json.dumps(record).encode(), "application/json"))[1])
    return np.array(labels), np.concatenate(sure)


def by_json(shape: Callable[[pd.DataFrame], Any]) -> Callable[[pd.DataFrame], tuple]:
    "POST /predict with JSON in some shape."
    return served(
        lambda address, frame: from_json(
            posted(address, json.dumps(shape(frame)).encode(), "application/json")
        )
    )


def by_tensors(address: str, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    "The Open Inference Protocol, as Triton's client speaks it."
    from tritonclient.http import InferenceServerClient, InferInput

    tensor = InferInput("rows", list(frame.shape), "FP64")
    tensor.set_data_from_numpy(frame.to_numpy())
    with InferenceServerClient(address.removeprefix("http://")) as client:
        found = client.infer("iris", [tensor])
    labels = found.as_numpy("prediction").astype(str)
    return labels, found.as_numpy("probabilities")


def by_the_form(address: str, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    "What the page's form asks: each value as the text that stands in its field."
    from rf_mlops.pages import ask, field_of

    model, answers = load("iris@champion"), []
    fields = [field_of(column) for column in model.schema.columns]
    for record in frame.to_dict("records"):
        for field in fields:
            field.control.value = str(record[field.column.name])
        row = {field.column.name: field.text for field in fields}
        document, _ = ask(address, "/models/iris/predict?proba=true", [row])
        answers.append(from_json(json.dumps(document).encode()))
    return np.concatenate([a[0] for a in answers]), np.concatenate([a[1] for a in answers])


def by_the_pages_file(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    "A file sent to the page's own address, as the page's script sends it."
    api = {"RF_MLOPS_SERVE__PORT": str(free_port())}
    with running("app", "--port", "0", cwd=Path.cwd(), env=api) as (_, (page, _)):
        where = f"{page}/models/iris/predict?join=true&on_error=quarantine&proba=true"
        headers = {"Content-Type": "text/csv", "Accept": "text/csv", "Origin": page}
        question = Request(where, frame.to_csv(index=False).encode(), headers)  # noqa: S310
        with urlopen(question) as answer:  # noqa: S310
            return from_csv(answer.read())


# Whoever adds a way to ask a model adds it here.
PATHS: dict[str, Callable[[pd.DataFrame], tuple[np.ndarray, np.ndarray]]] = {
    "a frame": loaded(lambda frame: frame),
    "a frame with its columns in another order": loaded(lambda frame: frame[frame.columns[::-1]]),
    "compiled in the notebook": compiled_in_the_notebook,
    "columns": loaded(lambda frame: {name: frame[name].tolist() for name in frame}),
    "records": loaded(lambda frame: frame.to_dict("records")),
    "arrays without names": loaded(lambda frame: frame.to_numpy()),
    "lists without names": loaded(lambda frame: frame.to_numpy().tolist()),
    "CSV": loaded(lambda frame: frame.to_csv(index=False).encode()),
    "Parquet": loaded(parquet),
    "an Arrow table": loaded(pa.Table.from_pandas),
    "one row at a time": lambda frame: in_parts(
        load("iris@champion"), [frame.iloc[i : i + 1] for i in range(len(frame))]
    ),
    "one record at a time": lambda frame: in_parts(load("iris@champion"), frame.to_dict("records")),
    "seven rows at a time": lambda frame: in_parts(
        load("iris@champion"), [frame.iloc[i : i + 7] for i in range(0, len(frame), 7)]
    ),
    "by version": lambda frame: (
        load("iris/1").predict(frame),
        load("iris/1").predict_proba(frame),
    ),
    "another process": another_process,
    "HTTP: query": served(by_query),
    "HTTP: records": by_json(lambda frame: frame.to_dict("records")),
    "HTTP: arrays": by_json(lambda frame: frame.to_numpy().tolist()),
    "HTTP: columns": by_json(lambda frame: frame.to_dict("list")),
    "HTTP: CSV": served(
        lambda address, frame: from_json(
            posted(address, frame.to_csv(index=False).encode(), "text/csv")
        )
    ),
    "HTTP: CSV in, CSV out": served(
        lambda address, frame: from_csv(
            posted(address, frame.to_csv(index=False).encode(), "text/csv", "text/csv")
        )
    ),
    "HTTP: Parquet": served(
        lambda address, frame: from_json(
            posted(address, parquet(frame), "application/vnd.apache.parquet")
        )
    ),
    "HTTP: tensors": served(by_tensors),
    "page: form": served(by_the_form),
    "page: file": by_the_pages_file,
}


@pytest.mark.parametrize("path", PATHS)
def test_every_path_gives_the_same_bits(trained_copy, path):
    taken = ingest(load_case("iris"), load_settings())
    frame = taken.frame[taken.schema.names]
    model = load("iris@champion")
    labels, probabilities = PATHS[path](frame)
    expected = model.predict_proba(frame)
    assert labels.tolist() == model.predict(frame).tolist()
    assert probabilities.dtype == expected.dtype == np.float32
    assert probabilities.tobytes() == expected.tobytes()
    assert len(set(labels)) == 3 and len(np.unique(expected)) > 20, "or equality says nothing"


# --- what a run leaves -------------------------------------------------------------------------------


class Links(html.parser.HTMLParser):
    "What a page would fetch or open, and the tags it uses."

    def __init__(self, page: str):
        super().__init__()
        self.tags: set[str] = set()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        names = {"src", "href", "xlink:href", "srcset", "action", "data", "poster"}
        self.found += [value or "" for name, value in attrs if name in names]
        self.tags |= {name for name, _ in attrs if name.startswith("on")}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> tuple[Path, dict, str]:
    "A project under git with a lock and an uncommitted change, one run in it, and its commit."
    folder = make_project(tmp_path_factory.mktemp("recorded") / "project")
    (folder / "requirements.lock").write_text("numpy==2.4.6\n")
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "A project"]):
        subprocess.run(["git", *who, *words], cwd=folder, check=True)
    with (folder / "params.yaml").open("a") as file:
        file.write("# an uncommitted thought\n")
    run = runs.execute("train", {"case": "iris", "overrides": QUICK}, load_settings(folder))
    assert run["verdict"] == "promoted", run["error"]
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=folder, text=True).strip()
    return folder, run, head


def test_the_report_stands_alone(recorded):
    folder, run, _ = recorded
    page = (folder / "reports" / run["url"]).read_text()
    links = Links(page)
    assert "script" not in links.tags and not any(tag.startswith("on") for tag in links.tags)
    assert links.found, "or this finds nothing"
    for address in links.found:
        inside = (
            address.startswith(("#", "data:"))
            or (folder / "reports" / run["url"]).parent.joinpath(address.split("#")[0]).is_file()
        )
        assert inside, address[:100]
    styles = re.findall(r"url\((?!['\"]?data:|['\"]?#)[^)]*\)|@import[^;]*", page)
    assert styles == []
    bare = re.sub(r"<svg.*?</svg>|data:[^\"')]+", "", page, flags=re.S)
    assert len(bare.encode()) < 200_000 and len(bare) < len(page)
    assert "Traceback" not in page
    for part in (run["verdict"], run["reason"], run["commit"][:7], run["data"]["digest"][:7]):
        assert part in page
    assert all(gate["name"] in page for gate in run["gates"])


def test_the_index_lists_every_run(recorded):
    folder, run, _ = recorded
    settings = load_settings(folder)
    failed = runs.execute("train", {"case": "iris", "overrides": "iris.sed=1"}, settings)
    assert failed["verdict"] == "failed"
    page = (folder / "reports" / "index.html").read_text()
    found = Links(page)
    assert "script" not in found.tags
    assert {run["url"], failed["url"]} <= set(found.found)
    assert all(not address.startswith("http") for address in found.found)
    for part in ("promoted", "failed", "0.9", run["commit"][:7], run["data"]["digest"][:7]):
        assert part in page
    for address in found.found:
        assert address.startswith(("#", "data:")) or (folder / "reports" / address).is_file()


def test_the_run_says_where_it_came_from(recorded):
    folder, run, head = recorded
    settings = load_settings(folder)
    client = open_store(settings)
    kept = client.get_run(run["mlflow_run_id"])
    tags = kept.data.tags
    assert run["commit"] == tags["git.commit"] == head
    assert run["dirty"] and tags["git.dirty"] == "true"
    lock = sha256((folder / "requirements.lock").read_bytes()).hexdigest()
    assert tags["lock"] == lock
    assert tags["data"] == run["data"]["digest"] and tags["model_hash"] == run["model_hash"]
    assert {"python", "processor", "numpy", "scikit-learn", "onnxruntime"} <= set(tags)
    assert (tags["verdict"], kept.info.status) == ("promoted", "FINISHED")
    assert (
        kept.data.params["seed"] == "21" and kept.data.params["model.params.n_estimators"] == "10"
    )
    assert {"accuracy", "accuracy_low", "test_accuracy", "seconds"} <= set(kept.data.metrics)

    root = Path(client.download_artifacts(kept.info.run_id, ""))
    names = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert {"notebook.ipynb", "report.html", "code.diff", "figures/errors.svg"} <= names
    assert {"bundle/manifest.json", "bundle/model.onnx", "evidence/predictions.parquet"} <= names
    assert "an uncommitted thought" in (root / "code.diff").read_text()
    executed = nbformat.read(root / "notebook.ipynb", as_version=4)
    assert runs.records_of(executed)["verdict"] == "promoted"
    provenance = json.loads((root / "bundle" / "provenance.json").read_text())
    assert provenance["code"] == {"commit": head, "dirty": True, "lock": lock}
    assert provenance["data"]["digest"] == run["data"]["digest"]
    assert provenance["case"]["seed"] == 21
    assert (settings.path("mlruns") / "snapshots" / f"{run['data']['digest']}.parquet").is_file()


def test_the_snapshot_is_the_data(recorded):
    folder, run, _ = recorded
    path = folder / "mlruns" / "snapshots" / f"{run['data']['digest']}.parquet"
    assert fingerprint(pd.read_parquet(path)).digest == run["data"]["digest"]


def test_models_are_listed_with_their_reasons(recorded):
    folder, run, _ = recorded
    ((case, version, alias, model, _, decided, reason),) = registry.model_rows(
        "iris", load_settings(folder)
    )
    assert (case, version, alias, decided, reason) == (
        "iris",
        "v1",
        "champion",
        "promoted",
        run["reason"],
    )
    assert run["model_hash"].startswith(model)
