"""What must not go well does not: refused models, failed runs, crashes, races and moved folders.

Most tests train in this process by the functions of the run notebook (`train_here`, a fifth of a second);
where the notebook, its kernel, the report or the console script is the point, they are the real ones.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, SCRIPT, edit_case, make_project, run_script

from rf_mlops import UserError, load, registry, runs
from rf_mlops.bundle import Parity
from rf_mlops.cli import Exit, exit_code
from rf_mlops.data import ingest
from rf_mlops.registry import (
    champions,
    common_rows,
    compile_evidence,
    judge,
    ledger_path,
    read_ledger,
    write_ledger,
)
from rf_mlops.settings import Part, load_case, load_params, load_settings
from rf_mlops.tracking import open_store, store_lock
from rf_mlops.train import train

QUICK = (
    "iris.evaluate.resamples=100",
    "iris.model.params.n_estimators=10",
    "iris.split.folds=2",
)
STUMP = (
    "iris.evaluate.resamples=100",
    "iris.model.params.n_estimators=1",
    "iris.model.params.max_depth=1",
    "iris.split.folds=2",
    "iris.gates.minimum.accuracy=0",
)


def execute(*sets: str, seed: int = -1, promote: bool = True) -> dict:
    "Train iris of the present project by its run notebook."
    asked = {"case": "iris", "seed": seed, "overrides": " ".join(sets), "promote": promote}
    return runs.execute("train", asked)


def evidence_here(*sets: str, seed: int = -1):
    "The run notebook's steps in this process, up to the gates."
    session = runs.begin("iris", "small", seed, " ".join(sets))
    taken = ingest(session.case, session.settings)
    training = train(session.case, taken.schema, taken.frame)
    return session, runs.keep(session, training, taken)


def train_here(*sets: str, seed: int = -1, promote: bool = True) -> registry.Judgement:
    "The run notebook's steps in this process, to the verdict."
    session, evidence = evidence_here(*sets, seed=seed)
    return runs.conclude(session, evidence, promote)


def aliases() -> dict[str, int]:
    "The present project's aliases as MLflow holds them."
    return registry.aliases_now(open_store(), "iris")


def versions() -> list[int]:
    "The registered versions, oldest first."
    return sorted(int(v.version) for v in open_store().search_model_versions("name = 'iris'"))


def ledger() -> list[dict]:
    "The present project's decisions."
    return read_ledger(load_settings(), "iris")


def move_by_hand(alias: str, version: int) -> None:
    "What somebody does in MLflow's own interface."
    open_store().set_registered_model_alias("iris", alias, str(version))


# --- each gate ---------------------------------------------------------------------------------------

FORGETFUL = """
"A forest that sharpens its answers, and a converter that knows nothing of it."
from skl2onnx import update_registered_converter
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from skl2onnx.operator_converters.random_forest import convert_sklearn_random_forest_classifier
from sklearn.ensemble import RandomForestClassifier


class Sharpened(RandomForestClassifier):
    def predict_proba(self, X):
        squared = super().predict_proba(X) ** 2
        return squared / squared.sum(axis=1, keepdims=True)


update_registered_converter(
    Sharpened,
    "Sharpened",
    calculate_linear_classifier_output_shapes,
    convert_sklearn_random_forest_classifier,
    options={
        "zipmap": [True, False, "columns"],
        "raw_scores": [True, False],
        "decision_path": [True, False],
        "decision_leaf": [True, False],
        "nocl": [True, False],
    },
)
"""


def bad_rows(project: Path) -> None:
    "Two cells of a CSV file are wrong, in two of 150 rows."
    case = load_case("iris")
    frame = ingest(case, load_settings()).frame.astype(object)
    frame.loc[3, "sepal_length"] = -4.5
    frame.loc[70, "petal_width"] = "wide"
    frame.to_csv(project / "iris.csv", index=False)
    edit_case(project, data={"type": "csv", "params": {"path": "iris.csv"}})


def wrong_converter(project: Path) -> None:
    "The compiled model answers otherwise than the trained one."
    (project / "forgetful.py").write_text(FORGETFUL)
    edit_case(project, model__type="forgetful:Sharpened")


def nothing(project: Path) -> None:
    "Only the overrides matter."


@pytest.mark.parametrize(
    ("gate", "change", "sets"),
    [
        ("data fit the schema", bad_rows, QUICK),
        ("compiled as trained", wrong_converter, QUICK),
        ("accuracy high enough", nothing, (*QUICK, "iris.gates.minimum.accuracy=0.99")),
        ("log_loss low enough", nothing, (*QUICK, "iris.gates.maximum.log_loss=0.01")),
        ("not worse than champion v1", nothing, STUMP),
    ],
    ids=["data", "parity", "minimum", "maximum", "champion"],
)
def test_each_gate_refuses(trained_copy, gate, change, sets):
    change(trained_copy)
    run = execute(*sets)
    assert run["verdict"] == "refused", run["error"]
    assert [g["name"] for g in run["gates"] if not g["passed"]] == [gate]
    assert exit_code([run]) is Exit.REFUSED
    assert aliases() == {"champion": 1} and versions() == [1, 2]
    assert load("iris").version == 1

    entry = ledger()[-1]
    assert (entry["event"], entry["version"], entry["champion_before"]) == ("refused", 2, 1)
    assert entry["gates"] == run["gates"] and gate in entry["reason"]
    page = (trained_copy / "reports" / run["url"]).read_text()
    assert gate in page and run["reason"] in page
    assert run["url"] in (trained_copy / "reports" / "index.html").read_text()


def test_the_command_says_refused_with_exit_code_3(trained_copy):
    sets = (*QUICK, "iris.gates.minimum.accuracy=0.99")
    found = run_script("train", "iris", *(word for text in sets for word in ("--set", text)))
    assert found.returncode == Exit.REFUSED == 3
    assert "refused" in found.stdout and "accuracy high enough" in found.stdout
    assert aliases() == {"champion": 1} and versions() == [1, 2]


def test_the_first_model_meets_the_absolute_gates_alone(project):
    refused = train_here(*QUICK, "iris.gates.minimum.accuracy=0.99")
    assert refused.verdict == "refused"
    assert aliases() == {} and versions() == [1]
    with pytest.raises(UserError, match="no model 'iris@champion'|no model 'iris'"):
        load("iris")
    first = train_here(*QUICK, seed=4)
    assert first.verdict == "promoted"
    assert [g.name for g in first.gates if "champion" in g.name] == []
    assert aliases() == {"champion": 2}


def test_parity_counts_labels_and_distance(project):
    _, evidence = evidence_here(*QUICK)
    case = load_case("iris")
    for bad in (Parity(150, 1, 0.0, 1e-6), Parity(150, 0, 2e-6, 1e-6)):
        found = judge(case, replace(evidence, parity=bad))
        assert (found.verdict, [g.name for g in found.gates if not g.passed]) == (
            "refused",
            ["compiled as trained"],
        )
    assert judge(case, evidence).verdict == "passed"


# --- promotion, rollback, ledger ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["params", "option"])
def test_a_model_that_passes_can_wait(trained_copy, how):
    if how == "params":
        edit_case(trained_copy, promote="ask")
    waiting = train_here(*QUICK, promote=how == "params")
    assert (waiting.verdict, waiting.version) == ("waiting", 2)
    assert aliases() == {"champion": 1, "challenger": 2}
    promoted = registry.promote(load_case("iris"))
    assert (promoted.verdict, promoted.version, promoted.champion) == ("promoted", 2, 1)
    assert aliases() == {"champion": 2, "previous": 1}
    assert [e["event"] for e in ledger()] == ["promoted", "waiting", "promoted"]
    assert load("iris@previous").version == 1


@pytest.mark.slow
def test_the_commands_promote_and_roll_back(trained_copy):
    trained = run_script("train", "iris", "--no-promote", "--seed", "5")
    assert trained.returncode == 0 and "waiting" in trained.stdout
    promoted = run_script("promote", "iris")
    assert promoted.returncode == 0 and "v2: promoted" in promoted.stdout
    assert aliases() == {"champion": 2, "previous": 1}
    back = run_script("rollback", "iris")
    assert back.returncode == 0 and "v1 is champion again" in back.stdout
    assert aliases() == {"champion": 1}
    again = run_script("rollback", "iris")
    assert again.returncode == Exit.WRONG_INPUT == 2
    assert "no earlier champion" in again.stderr and "Traceback" not in again.stderr
    absent = run_script("promote", "iris", "17")
    assert absent.returncode == 2 and "no version 17" in absent.stderr


def test_nobody_promotes_a_refused_model(trained_copy):
    assert train_here(*STUMP).verdict == "refused"
    found = registry.promote(load_case("iris"), 2)
    assert found.verdict == "refused"
    assert {g.name for g in found.gates if not g.passed} == {
        "accuracy high enough",
        "not worse than champion v1",
    }
    assert aliases() == {"champion": 1}
    assert [e["event"] for e in ledger()] == ["promoted", "refused", "refused"]


def test_rollbacks_go_back_one_champion_each(trained_copy):
    for seed in (5, 6):
        assert train_here(*QUICK, seed=seed).verdict == "promoted"
    assert aliases() == {"champion": 3, "previous": 2}
    assert registry.rollback("iris") == (3, 2)
    assert aliases() == {"champion": 2, "previous": 1}
    assert registry.rollback("iris") == (2, 1)
    assert aliases() == {"champion": 1}
    before = ledger()
    with pytest.raises(UserError, match="no earlier champion"):
        registry.rollback("iris")
    assert ledger() == before
    assert load("iris").version == 1
    # What was rolled back does not return by itself; a person may bring it back, through the gates.
    again = train_here(*QUICK, seed=6)
    assert (again.verdict, again.version) == ("waiting", 3) and "rolled back" in again.reason
    assert aliases() == {"champion": 1, "challenger": 3}
    assert registry.promote(load_case("iris"), 3).verdict == "promoted"
    assert aliases() == {"champion": 3, "previous": 1}


def test_the_same_model_changes_nothing(project):
    assert train_here(*QUICK).verdict == "promoted"
    again = train_here(*QUICK)
    assert (again.verdict, again.champion, again.version) == ("unchanged", 1, None)
    assert versions() == [1] and aliases() == {"champion": 1}
    assert [e["event"] for e in ledger()] == ["promoted", "unchanged"]
    assert registry.promote(load_case("iris"), 1).verdict == "unchanged"
    assert aliases() == {"champion": 1}


TAMPERINGS = {
    "first line changed": lambda x: [x[0].replace("promoted", "refused", 1), *x[1:]],
    "middle line changed": lambda x: [*x[:2], x[2].replace("passed", "Passed", 1), *x[3:]],
    "first line removed": lambda x: x[1:],
    "middle line removed": lambda x: [*x[:2], *x[3:]],
    "two lines swapped": lambda x: [x[0], x[2], x[1], *x[3:]],
    "a line repeated": lambda x: [*x, x[-1]],
    "a line forged": lambda x: [
        *x,
        json.dumps({"case": "iris", "event": "promoted", "version": 1}),
    ],
    "half a line": lambda x: [*x[:-1], x[-1][: len(x[-1]) // 2] + "\n"],
    "last line changed": lambda x: [*x[:-1], x[-1].replace('"refused"', '"promoted"', 1)],
    "last line removed": lambda x: x[:-1],
    "last line's end removed": lambda x: [*x[:-1], x[-1][:-1]],
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_changed_ledger_is_noticed_and_nothing_is_decided(trained_copy, name):
    train_here(*QUICK, seed=5)
    train_here(*QUICK, seed=6)
    assert train_here(*STUMP).verdict == "refused"
    path = ledger_path(load_settings())
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    before = aliases()
    tampered = TAMPERINGS[name](lines)
    assert tampered != lines
    path.write_text("".join(tampered))
    with pytest.raises(UserError, match="ledger was changed"):
        registry.rollback("iris")
    with pytest.raises(UserError, match="ledger was changed"):
        train_here(*QUICK, seed=7)
    assert aliases() == before


def test_a_crash_between_ledger_and_alias_is_made_good(trained_copy):
    "The ledger is written first: whoever decides next lets the aliases follow it."
    assert train_here(*QUICK, seed=5, promote=False).verdict == "waiting"
    settings = load_settings()
    entry = {"case": "iris", "event": "promoted", "version": 2, "champion_before": 1}
    with store_lock(settings):
        write_ledger(settings, {**entry, "reason": "All gates passed.", "by": "a test"})
    assert aliases() == {"champion": 1, "challenger": 2}  # as the crash left them
    found = train_here(*STUMP)
    assert (found.verdict, found.champion) == ("refused", 2)
    assert "not worse than champion v2" in found.reason
    assert aliases() == {"champion": 2, "previous": 1}


def test_a_process_that_dies_before_the_alias_moves_loses_nothing(trained_copy):
    "The same with a process that really dies between the two."
    assert train_here(*QUICK, seed=5, promote=False).verdict == "waiting"
    dying = """
import os
from rf_mlops import registry
from rf_mlops.settings import load_case

settle, calls = registry.settle, []

def die_at_the_second(*args):
    calls.append(args)
    return settle(*args) if len(calls) == 1 else os._exit(9)

registry.settle = die_at_the_second
registry.promote(load_case("iris"))
"""
    python = SCRIPT.parent / "python"
    assert subprocess.run([python, "-c", dying], capture_output=True).returncode == 9
    assert aliases() == {"champion": 1, "challenger": 2}
    assert champions(ledger()) == [1, 2]
    assert registry.rollback("iris") == (2, 1)
    assert aliases() == {"champion": 1}


@pytest.mark.parametrize("how", ["moved", "deleted"])
def test_an_alias_moved_by_hand_moves_back(trained_copy, how):
    assert train_here(*QUICK, seed=5).verdict == "promoted"
    assert train_here(*STUMP).verdict == "refused"
    if how == "moved":
        move_by_hand("champion", 3)
        assert load("iris").version == 3
    else:
        open_store().delete_registered_model_alias("iris", "champion")
    found = train_here(*QUICK, seed=6)
    assert (found.verdict, found.champion) == ("promoted", 2), "judged against the ledger's"
    assert aliases() == {"champion": 4, "previous": 2}
    assert champions(ledger()) == [1, 2, 4]


def test_a_judgement_of_yesterday_promotes_nobody(project):
    "Compare and set: a model judged against one champion meets the one there is when it comes to deciding."
    weak = train_here(*STUMP)
    assert (weak.verdict, weak.version) == ("promoted", 1)
    session, evidence = evidence_here(*STUMP, "iris.model.params.oob_score=false")
    evidence = replace(evidence, model_hash="another model with the same answers")
    judgement = runs.judged(session, evidence)
    assert (judgement.verdict, judgement.champion) == ("passed", 1)
    strong = train_here(*QUICK)
    assert (strong.verdict, strong.version) == ("promoted", 2)

    final = runs.conclude(session, evidence)
    assert (final.verdict, final.champion, final.version) == ("refused", 2, 3)
    assert final.gates[-1].name == "not worse than champion v2" and not final.gates[-1].passed
    assert aliases() == {"champion": 2, "previous": 1}
    assert ledger()[-1]["champion_before"] == 2


# --- two at once -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seeds", [(3, 7), pytest.param((3, 3), marks=pytest.mark.slow)], ids=["two seeds", "one seed"]
)
def test_two_trainings_at_once_into_an_empty_folder(project, seeds):
    sets = [word for text in QUICK for word in ("--set", text)]
    together = [
        subprocess.Popen(
            [SCRIPT, "train", "iris", "--seed", str(seed), *sets],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in seeds
    ]
    said = [process.communicate(timeout=300) for process in together]
    assert [process.returncode for process in together] == [0, 0], said

    entries, stack = ledger(), champions(ledger())
    assert len(entries) == 2 and entries[0]["event"] == "promoted"
    assert entries[1]["champion_before"] == 1, "the second was judged against the first"
    assert entries[1]["event"] == ("promoted" if len(set(seeds)) == 2 else "unchanged")
    assert versions() == list(range(1, len(stack) + 1))
    assert aliases() == dict(zip(("champion", "previous"), stack[::-1], strict=False))
    assert load("iris").version == stack[-1]

    client = open_store()
    experiments = [e.experiment_id for e in client.search_experiments() if e.name == "iris"]
    kept = client.search_runs(experiments)
    assert len(experiments) == 1 and [r.info.status for r in kept] == ["FINISHED"] * 2
    assert {r.info.run_id for r in kept} == {e["run_id"] for e in entries}
    for run in kept:
        names = {a.path for a in client.list_artifacts(run.info.run_id)}
        assert {"bundle", "evidence", "notebook.ipynb", "report.html"} <= names
    index = (project / "reports" / "index.html").read_text()
    assert all(run["url"] in index for run in runs.past_runs(load_settings()))
    assert len(runs.past_runs(load_settings())) == 2


# --- another folder ----------------------------------------------------------------------------------


def at_home(folder: Path, monkeypatch) -> None:
    "Work in that project from now on."
    monkeypatch.setenv("RF_MLOPS_PROJECT", str(folder))
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("name", ["moved", "with spaces, ünd Üml", "日本語", "100% a#b"])
def test_a_moved_project_goes_on(trained_copy, tmp_path, monkeypatch, name):
    assert train_here(*QUICK, seed=5).verdict == "promoted"  # every address is of this folder now
    answers = load("iris").predict_proba([[5.1, 3.5, 1.4, 0.2]])
    monkeypatch.chdir(tmp_path)
    moved = tmp_path / name
    trained_copy.rename(moved)
    at_home(moved, monkeypatch)

    assert (load("iris").predict_proba([[5.1, 3.5, 1.4, 0.2]]) == answers).all()
    rows = registry.model_rows("iris", load_settings())
    assert [row[1:3] for row in rows] == [["v2", "champion"], ["v1", "previous"]]
    again = train_here(*QUICK, seed=5)
    assert (again.verdict, again.champion) == ("unchanged", 2)
    assert registry.rollback("iris") == (2, 1)
    assert registry.promote(load_case("iris"), 2).verdict == "promoted"
    addresses = [v.source for v in open_store().search_model_versions("name = 'iris'")]
    assert not any("/trained/" in address for address in addresses)


@pytest.mark.slow
def test_the_run_notebook_works_in_a_moved_folder(trained_copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    moved = tmp_path / "wo anders, größer"
    trained_copy.rename(moved)
    at_home(moved, monkeypatch)
    listed = run_script("models", "iris")
    assert listed.returncode == 0 and "champion" in listed.stdout
    run = runs.execute("train", {"case": "iris"})
    assert run["verdict"] == "unchanged", run["error"]
    assert len(runs.past_runs(load_settings())) == 2


def test_a_copy_lives_its_own_life(trained_copy, tmp_path, monkeypatch):
    "What happens to the original afterwards does not touch the copy, nor the other way round."
    assert train_here(*QUICK, seed=5).verdict == "promoted"
    copy = tmp_path / "copy"
    shutil.copytree(trained_copy, copy)
    (graph,) = [
        trained_copy.joinpath(*p.relative_to(copy).parts)
        for p in copy.glob("mlruns/artifacts/iris/*/artifacts/bundle/model.onnx")
        if p.parents[2].name == open_store().get_model_version("iris", "2").run_id
    ]
    graph.write_bytes(b"no graph")
    with pytest.raises(UserError, match="changed"):
        load("iris")
    at_home(copy, monkeypatch)
    assert load("iris").version == 2
    assert train_here(*QUICK, seed=6).verdict == "promoted"
    assert aliases() == {"champion": 3, "previous": 2}
    at_home(trained_copy, monkeypatch)
    assert aliases() == {"champion": 2, "previous": 1}


# --- failing runs ------------------------------------------------------------------------------------

BEGIN = "from rf_mlops import runs\nsession = runs.begin(case)"
BROKEN = {  # cells after the parameters, seconds a cell may take, what the reader is told, whether it had begun
    "a cell raises": ([BEGIN, "1 / 0"], 120, "ZeroDivisionError: division by zero", True),
    "a user's mistake": (
        ["from rf_mlops import UserError", "raise UserError('That is wrong', 'here', todo='this')"],
        120,
        "That is wrong\n  where: here\n  to do: this",
        False,
    ),
    "killed": ([BEGIN, "import os\nos.kill(os.getpid(), 9)"], 120, "The kernel died", True),
    "too long": (["while True: pass"], 2, "2 (s|seconds)", False),
    "sys.exit(0)": ([BEGIN, "import sys\nsys.exit(0)", "1 + 1"], 120, "ended early", True),
    "sys.exit(1)": (["import sys\nsys.exit(1)"], 120, "^The run ended early", False),
    "exit()": (["exit()", "1 + 1"], 120, "ended early|kernel died|no verdict", False),
    "a skipped cell": ([BEGIN, ("1 + 1", "skip-execution"), "2 + 2"], 120, "never ran", True),
    "no verdict": ([BEGIN], 120, "no verdict", True),
}


def write_notebook(project: Path, name: str, cells: list) -> None:
    "A run notebook of one parameter and these cells; a pair is a cell and its tag."
    cells = [('case: str = "iris"', "parameters"), *cells]
    pairs = [cell if isinstance(cell, tuple) else (cell, None) for cell in cells]
    made = [
        nbformat.v4.new_code_cell(text, metadata={"tags": [tag]} if tag else {})
        for text, tag in pairs
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=made, metadata=kernel)
    nbformat.write(notebook, project / "nbs" / "runs" / f"{name}.ipynb")


@pytest.mark.parametrize("name", BROKEN)
def test_a_failed_run_leaves_its_report_and_moves_nothing(trained_copy, name):
    cells, timeout, told, begun = BROKEN[name]
    write_notebook(trained_copy, "broken", cells)
    before, at_the_root = ledger(), {p.name for p in trained_copy.iterdir()}
    run = runs.execute("broken", {"case": "iris"}, timeout=timeout)
    assert (run["verdict"], run["status"]) == ("failed", "failed")
    assert exit_code([run]) is Exit.FAILED == 1
    assert re.search(told, run["error"]), run["error"]
    assert run["reason"]

    folder = (trained_copy / "reports" / run["url"]).parent
    assert json.loads((folder / "run.json").read_text()) == run
    assert len(nbformat.read(folder / "notebook.ipynb", as_version=4).cells) >= len(cells) + 1
    page = (folder / "report.html").read_text()
    assert "Traceback" not in page and run["error"].splitlines()[0] in page.replace("&#39;", "'")
    index = (trained_copy / "reports" / "index.html").read_text()
    assert index.count("report.html") >= 2 and run["url"] in index
    hidden = [p.name for p in (trained_copy / "reports").rglob(".*") if p.name != ".lock"]
    assert hidden == []
    assert {p.name for p in trained_copy.iterdir()} == at_the_root, (
        "nothing left beside the project"
    )

    assert aliases() == {"champion": 1} and ledger() == before and versions() == [1]
    assert bool(run["mlflow_run_id"]) == begun
    if begun:
        client = open_store()
        assert client.get_run(run["mlflow_run_id"]).info.status == "FAILED"
        kept = {a.path for a in client.list_artifacts(run["mlflow_run_id"])}
        assert {"notebook.ipynb", "report.html"} <= kept


@pytest.mark.slow
def test_a_failed_training_is_told_without_a_traceback(project):
    found = run_script("train", "iris", "--set", "iris.model.params.max_depth=deep")
    assert found.returncode in (Exit.FAILED, Exit.WRONG_INPUT)
    assert "max_depth" in found.stdout + found.stderr
    assert "Traceback" not in found.stdout + found.stderr
    pages = list((project / "reports").rglob("report.html"))
    assert all("Traceback" not in page.read_text() for page in pages)
    assert aliases() == {}


def test_wrong_parameters_start_no_kernel(project):
    for wrong in ({"cas": "iris"}, {"case": 3}, {"promote": "no"}, {"seed": 1.5}):
        with pytest.raises(UserError, match="parameter"):
            runs.execute("train", wrong)
    with pytest.raises(UserError, match="did you mean 'train'"):
        runs.execute("trian", {})
    assert not (project / "reports").exists() and not (project / "mlruns").exists()


def test_no_parameter_leads_out_of_the_reports(project):
    with pytest.raises(UserError, match="No case"):
        runs.execute("train", {"case": "../../outside"})
    assert {path.name for path in project.parent.iterdir()} == {"project"}


@pytest.mark.slow
def test_an_interrupted_run_is_a_failed_one(project):
    "Ctrl-C in the middle of a training: told in words, nothing half done stays behind."
    began = project / "mlruns" / "artifacts" / "iris"
    process = subprocess.Popen(
        [SCRIPT, "train", "iris"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background inherits that Ctrl-C is ignored; a person's terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not list(began.glob("*/artifacts/figures")):  # its first figure is kept
        assert process.poll() is None, "it ended before it could be interrupted"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "Stopped" in told and "Traceback" not in told
    assert aliases() == {} and ledger() == []
    assert [p.name for p in (project / "reports").rglob(".*") if p.name != ".lock"] == []
    client = open_store()
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == "iris"]
    (run,) = client.search_runs([experiment])
    assert run.info.status in ("FAILED", "KILLED")
    (record,) = runs.past_runs(load_settings())
    assert record["verdict"] == "failed" and record["mlflow_run_id"] == run.info.run_id


# --- twice, and by another seed ----------------------------------------------------------------------


def bundle_of(run: dict) -> bytes:
    "The manifest of a run's bundle: the hashes of all its files."
    path = f"mlruns/artifacts/iris/{run['mlflow_run_id']}/artifacts/bundle/manifest.json"
    return Path(path).read_bytes()


def test_the_same_commit_gives_the_same_bytes(project):
    shutil.copy(ROOT / ".gitignore", project)
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "A project"]):
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *words], check=True)
    first, second = execute(*QUICK), execute(*QUICK)
    assert (first["verdict"], second["verdict"]) == ("promoted", "unchanged"), second["error"]
    assert first["commit"] == second["commit"] != "" and not second["dirty"]
    for key in ("data", "metric", "model_hash", "version"):
        assert first[key] == second[key], key
    assert first["gates"] == second["gates"]
    assert bundle_of(first) == bundle_of(second)
    client = open_store()
    metrics = [client.get_run(run["mlflow_run_id"]).data.metrics for run in (first, second)]
    assert {k: v for k, v in metrics[0].items() if k != "seconds"} == {
        k: v for k, v in metrics[1].items() if k != "seconds"
    }


def test_equally_good_forests_are_not_refused(project, tmp_path):
    """Over 20 seeds at most one forest that is as good as the champion is refused.

    As good: its metric on the rows both answered is below the champion's by no more than the margin.
    The champion is the case as it stands in params.yaml; only the seed differs.
    """
    settings = load_settings()
    case = load_case("iris")
    taken = ingest(case, settings)

    def evidence(seed: int):
        training = train(case.model_copy(update={"seed": seed}), taken.schema, taken.frame)
        return compile_evidence(training, taken, tmp_path / str(seed))

    champion = evidence(case.seed)
    best = judge(case, champion).metric.value
    as_good, refused = 0, []
    for seed in range(100, 120):
        it = evidence(seed)
        found = judge(case, it, champion, 1)
        assert found.gates[-1].name == "not worse than champion v1"
        assert f"on {len(taken.frame)} common rows" in found.gates[-1].got
        if found.metric.value >= best - case.gates.margin:
            as_good += 1
            refused += [(seed, found.reason)] if found.verdict == "refused" else []
    assert as_good >= 15, "or this test says nothing"
    assert len(refused) <= 1, refused


# --- fairness ----------------------------------------------------------------------------------------

SPY = """
"A classifier that answers only whether it was fitted on a row."
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class Spy(ClassifierMixin, BaseEstimator):
    def __init__(self, random_state=0):
        self.random_state = random_state

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.rows_ = {row.tobytes() for row in np.asarray(X)}
        return self

    def predict_proba(self, X):
        known = np.array([row.tobytes() in self.rows_ for row in np.asarray(X)], dtype=float)
        return np.column_stack([1 - known, known, np.zeros(len(known))])
"""


def test_models_are_compared_on_rows_that_neither_was_fitted_on(project, monkeypatch):
    "Whatever seed, share of test rows and number of folds: the answers that are compared come from strangers."
    (project / "spy_model.py").write_text(SPY)
    monkeypatch.syspath_prepend(project)
    settings = load_settings()
    spied = []
    for sets in (
        ("iris.seed=1",),
        ("iris.seed=2", "iris.split.folds=3"),
        ("iris.split.test_share=0.5",),
    ):
        case = load_case("iris", params=load_params(settings, sets=sets))
        case = case.model_copy(update={"model": Part(type="spy_model:Spy", params={})})
        taken = ingest(case, settings)
        training = train(case, taken.schema, taken.frame)
        fitted = training.pipeline.predict_proba(taken.frame[taken.schema.names])[:, 1]
        assert fitted[~training.test].all() and not fitted[training.test].any()
        evidence = registry.Evidence(
            str(len(spied)),
            taken.schema.classes,
            training.keys,
            training.truth,
            training.honest,
            Parity(150, 0, 0.0, 1e-6),
            150,
            0,
        )
        spied.append((training, evidence))
    for i, (_, one) in enumerate(spied):
        for _, other in spied[i + 1 :]:
            mine, theirs = common_rows(one, other)
            assert len(mine) == len(taken.frame)
            assert (one.keys[mine] == other.keys[theirs]).all()
            assert not one.honest[mine, 1].any(), "answered by a model that knew the row"
            assert not other.honest[theirs, 1].any()
    smaller, larger = spied[0][0].test, spied[2][0].test
    assert (larger | ~smaller).all() and larger.sum() > smaller.sum(), "a test row stays one"


def test_rows_of_another_delivery_are_compared_by_what_they_are(project):
    "The data came in another order, with rows gone and new: each common row meets itself."
    settings, case = load_settings(), load_case("iris")
    quick = case.model_copy(
        update={"evaluate": case.evaluate.model_copy(update={"resamples": 100})}
    )
    frame = ingest(case, settings).frame
    shuffled = frame.sample(frac=0.8, random_state=3)
    new = frame.iloc[:10].assign(sepal_length=lambda rows: rows.sepal_length + 0.05)
    later = pd.concat([shuffled, new]).reset_index(drop=True)
    frame.to_csv(project / "old.csv", index=False)
    later.to_csv(project / "new.csv", index=False)
    found = []
    for name in ("old.csv", "new.csv"):
        its = quick.model_copy(update={"data": Part(type="csv", params={"path": name})})
        taken = ingest(its, settings)
        training = train(its, taken.schema, taken.frame)
        found.append((compile_evidence(training, taken, project / f"{name}.bundle"), taken.frame))
    (old, before), (new_, after) = found
    mine, theirs = common_rows(new_, old)
    assert len(mine) == len(shuffled)
    same = after.iloc[mine].reset_index(drop=True) == before.iloc[theirs].reset_index(drop=True)
    assert same.all(axis=None)
    assert len(np.unique(theirs)) == len(theirs)
    assert f"on {len(shuffled)} common rows" in judge(quick, new_, old, 1).gates[-1].got


def test_too_few_common_rows_are_no_comparison(project):
    _, evidence = evidence_here(*QUICK)
    case = load_case("iris")
    other = replace(evidence, model_hash="other", keys=evidence.keys + np.uint64(1))
    found = judge(case, evidence, other, 1)
    assert found.verdict == "refused" and "0 common rows" in found.gates[-1].got


def test_a_project_is_made_for_each_test(project):
    assert Path.cwd() == project == load_settings().root
    assert make_project(project) == project
    assert os.environ["RF_MLOPS_PROJECT"] == str(project)


BUILD = """
import sys
from pathlib import Path
from rf_mlops.bundle import build
from rf_mlops.data import ingest
from rf_mlops.settings import load_case, load_settings
from rf_mlops.train import train

case = load_case("iris")
taken = ingest(case, load_settings())
print(build(train(case, taken.schema, taken.frame), taken.frame, Path(sys.argv[1])).model_hash)
"""


def test_no_process_has_bytes_of_its_own(project, tmp_path):
    "Sets are ordered differently in every process; a model with categories must not show it."
    frame = ingest(load_case("iris"), load_settings()).frame
    frame["colour"] = ["red", "blue", None] * 50
    frame.to_csv(project / "iris.csv", index=False)
    edit_case(project, data={"type": "csv", "params": {"path": "iris.csv"}})
    hashes = {
        subprocess.run(
            [sys.executable, "-c", BUILD, str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(hashes) == 1
