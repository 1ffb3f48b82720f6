"""Whatever is given wrongly is told in words: what, where, what was expected, what to do. Never a traceback."""

import json
import shutil
import sys
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest

from rf_mlops.cli import main
from rf_mlops.data import fingerprint, ingest, is_test, row_keys
from rf_mlops.evaluate import metric_of
from rf_mlops.runs import execute
from rf_mlops.schema import Column, Schema, learn_schema
from rf_mlops.settings import (
    Case,
    UserError,
    find_root,
    load_case,
    load_params,
    load_settings,
    parse_yaml,
    scalar,
)
from rf_mlops.tables import from_csv, raw_columns, require
from rf_mlops.train import train

FINE, FAILED, WRONG_INPUT, REFUSED = range(4)


TABLE = (pd.DataFrame, pd.Series, np.ndarray, dict)  # what has no short text


def row(*given, says: str):
    "A row of a table of mistakes: what is given, and the words expected, with `|` between them."
    words = [w.strip() for w in says.split("|")]
    named = given[0] if len(given) == 2 and isinstance(given[1], TABLE) else given[-1]
    name = " ".join(str(named).split())[:60] or "nothing"
    return pytest.param(*given, words, id=name)


def told(done: CompletedProcess[str], words: list[str]) -> None:
    "A command refused its input, in words."
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    assert done.returncode == WRONG_INPUT, done.stdout + done.stderr
    assert "Error: " in done.stderr
    assert [w for w in words if w not in done.stderr] == [], done.stderr


def refuses(action, words: list[str]) -> str:
    "A function refused its input, in words."
    with pytest.raises(UserError) as caught:
        action()
    text = str(caught.value)
    assert [w for w in words if w not in text] == [], text
    return text


def nothing_ran(project) -> None:
    "No kernel was started: neither a report nor a record."
    assert not (project / "reports").exists()
    assert not (project / "mlruns").exists()


@pytest.fixture
def command(monkeypatch, capsys):
    "The console script's own function, in this process: as `rf_mlops`, and quicker."

    def call(*words: str, **env: str) -> CompletedProcess[str]:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["rf-mlops", *words])
        try:
            main()
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(bool(left.code))
        seen = capsys.readouterr()
        return CompletedProcess(words, code, seen.out, seen.err)

    return call


def change(project, old: str, new: str, name: str = "params.yaml") -> None:
    "Replace a text that is there."
    text = (project / name).read_text(encoding="utf-8")
    assert old in text
    (project / name).write_text(text.replace(old, new, 1), encoding="utf-8")


# ---- params.yaml ------------------------------------------------------------------------------------

MISSPELT = [
    row("defaults:", "defalts:", says="Unknown key 'defalts' | params.yaml | mean 'defaults'?"),
    row("\ncases:", "\ncase:", says="Unknown key 'case' | did you mean 'cases'?"),
    row("seed: 21", "sead: 21", says="Unknown key 'sead' | did you mean 'seed'?"),
    row("test_share:", "test_shar:", says="'test_shar' | split.test_shar | mean 'test_share'?"),
    row("title:", "titel:", says="Unknown key 'titel' | cases.iris.titel | did you mean 'title'?"),
    row("{type: sklearn", "{typ: a, type: sklearn", says="'typ' | data.typ | mean 'type'?"),
    row("{unit: cm", "{unti: cm", says="'unti' | columns.sepal_length.unti | mean 'unit'?"),
    row("margin: 0.05", "margn: 0.05", says="'margn' | gates.margn | did you mean 'margin'?"),
    row("minimum: {acc", "minimun: {acc", says="gates.minimun | did you mean 'minimum'?"),
    row("sizes:", "size:", says="Unknown key 'size' | cases.iris.size"),
    row(
        *("metric: accuracy", "metrik: accuracy"),
        says="Unknown key 'metrik' | did you mean 'metric'?",
    ),
]
ILL_TYPED = [
    row("folds: 5", 'folds: "five"', says="split.folds | integer | 'five'"),
    row("folds: 5", "folds: 010", says="split.folds | integer | '010'"),
    row("folds: 5", "folds: 1e-3", says="split.folds | integer | 0.001"),
    row("folds: 5", "folds: 2.0", says="split.folds | integer | 2.0"),
    row("folds: 5", "folds: 1", says="split.folds | greater than or equal to 2"),
    row("folds: 5", "folds: null", says="split.folds | integer | None"),
    row("resamples: 2000", "resamples: 2e3", says="evaluate.resamples | integer | 2000.0"),
    row("test_share: 0.3", "test_share: 0.9", says="split.test_share | less than or equal to 0.5"),
    row("test_share: 0.3", "test_share: 30%", says="split.test_share | number | '30%'"),
    row("seed: 21", "seed: -1", says="cases.iris.seed | greater than or equal to 0"),
    row("seed: 21", "seed: true", says="cases.iris.seed | integer | True"),
    row("seed: 21", "seed: 2015-06-01", says="cases.iris.seed | integer | '2015-06-01'"),
    row("promote: auto", "promote: maybe", says="promote | 'auto' or 'ask' | 'maybe'"),
    row("task: classification", "task: sorting", says="task | 'classification' | 'sorting'"),
    row("classes: [setosa, versicolor, virginica]", "classes: setosa", says="classes | list"),
    row("maximum: 30", "maximum: many", says="columns.sepal_length.maximum | number | 'many'"),
    row("{unit: cm,", "{unit: cm, missing: yes,", says="sepal_length.missing | boolean | 'yes'"),
    row("{unit: cm,", "{unit: cm, missing: no,", says="sepal_length.missing | boolean | 'no'"),
    row("{unit: cm,", "{unit: cm, kind: numbr,", says="sepal_length.kind | 'number' | 'numbr'"),
    row("target: species", "target: 5", says="cases.iris.target | string | 5"),
    row("margin: 0.05", "margin: -1", says="gates.margin | greater than or equal to 0"),
    row("type: random_forest", "type: [random_forest]", says="model.type | string"),
    row("classes: [", "codes: [1]\n    classes: [", says="codes and classes | equally many"),
]
BROKEN = [
    row("target: species", "target: a\n    target: b", says="valid YAML | line 16 | duplicate key"),
    row("target: species", "target: [species", says="valid YAML | params.yaml, line"),
    row("    target:", "\ttarget:", says="valid YAML | line 15 | '\\t'"),
    row(
        "title: W", "title: !!python/object/apply:os.getcwd [] #", says="valid YAML | line 12 | tag"
    ),
    row("title: W", "title: !!python/name:os.system #", says="valid YAML | line 12 | tag"),
    row("title: W", "title: !env HOME #", says="valid YAML | line 12 | !env"),
    row("\ncases:", "\n---\ncases:", says="valid YAML | another document"),
]


@pytest.mark.parametrize(("old", "new", "words"), MISSPELT + ILL_TYPED + BROKEN)
def test_a_wrong_line_in_params(project, command, old, new, words):
    change(project, old, new)
    told(command("train", "iris"), words)
    nothing_ran(project)


NOT_BLOCKS = [
    row("- a\n", says="must be a mapping | defaults: and cases:"),
    row("iris\n", says="must be a mapping"),
    row("", says="There is no case | cases:"),
    row("cases: {}\n", says="There is no case"),
    row("cases: {iris: 5}\n", says="Case 'iris' is not a block | 5"),
    row("cases: {iris: {split: 3}}\n", says="cases.iris"),
    *(
        row(text, says=text.split(":")[0])
        for text in (
            "cases: [iris]\n",
            "cases: iris\n",
            "defaults: 3\ncases: {iris: {target: species}}\n",
        )
    ),
    row("cases: {iris: {sizes: 3}}\n", says="sizes"),
    row("cases: {iris: {sizes: {small: 3}}}\n", says="small"),
]


@pytest.mark.parametrize(("text", "words"), NOT_BLOCKS)
def test_params_that_are_no_blocks(project, command, text, words):
    (project / "params.yaml").write_text(text)
    told(command("train", "iris"), words)


def test_a_misspelt_key_of_a_size(project, command):
    change(project, "full: {evaluate: {resamples", "full: {evaluate: {resample")
    told(command("train", "iris", "--size", "full"), ["evaluate.resample", "mean 'resamples'?"])


def test_params_in_another_encoding(project, command):
    (project / "params.yaml").write_bytes("# é\ncases: {}\n".encode("latin-1"))
    told(command("train", "iris"), ["params.yaml", "UTF-8"])


def test_no_params(project, command):
    (project / "params.yaml").unlink()
    told(command("train", "iris"), ["params.yaml is not there", "[paths] in settings.ini"])


LENIENT = {
    "a class named twice": ("[setosa, versicolor, virginica]", "[setosa, setosa, virginica]"),
    "a list as the name of a class": ("classes: [setosa,", "classes: [[setosa],"),
    "a code given twice": ("classes: [", "codes: [0, 1, 1]\n    classes: ["),
    "a range that ends before it begins": ("minimum: 0, maximum: 30", "minimum: 9, maximum: 3"),
    "a name, which is ignored": ("title:", "name: wine\n    title:"),
    "the target among the dropped columns": (
        "target: species",
        "target: species\n    drop: [species]",
    ),
}


@pytest.mark.parametrize("what", LENIENT)
def test_what_cannot_be_meant(project, what):
    change(project, *LENIENT[what])
    refuses(lambda: load_case("iris"), ["iris"])


def test_a_variable_without_a_key(project):
    env = {"RF_MLOPS_PROJECT": str(project), "RF_MLOPS_IRIS": "5"}
    refuses(lambda: load_case("iris", params=load_params(env=env)), ["RF_MLOPS_IRIS"])


def test_the_real_script_tells_it_too(project, rf_mlops):
    change(project, "title:", "titel:")
    told(rf_mlops("train", "iris"), ["Unknown key 'titel'", "did you mean 'title'?"])
    nothing_ran(project)


# ---- yaml's own traps -------------------------------------------------------------------------------

# fmt: off
SCALARS = {
    "": None, "~": None, "null": None, "NULL": None, "true": True, "False": False,
    "0": 0, "-0": 0, "7": 7, "-12": -12, "+3": 3,
    "1e-3": 0.001, "1E5": 1e5, ".5": 0.5, "5.": 5.0, "-1.25": -1.25,
}
TEXTS = [
    "010", "0o17", "0x1F", "1_000", "12:30:45", ".", "-5-", ".e5", "1.2.3", "1e",
    "no", "NO", "yes", "on", "off", "y", "n", ".inf", "nan", ".nan", "inf",
    "2015-06-01", "2015-06-01T10:00:00Z", "<", "3 %", "v1",
]
SCALARS |= {text: text for text in TEXTS}
# fmt: on


@pytest.mark.parametrize("text", SCALARS)
def test_a_plain_value_is_what_json_would_make_of_it(text):
    wanted = SCALARS[text]
    for found in (scalar(text), parse_yaml(f"key: {text}")["key"]):
        assert found == wanted
        assert type(found) is type(wanted)


@pytest.mark.parametrize("text", ["e5", "-E3"])
def test_an_exponent_without_a_number_is_a_text(text):
    assert scalar(text) == text


@pytest.mark.parametrize("text", ["=", "-.5e2"])
def test_a_file_and_a_set_read_the_same(text):
    assert parse_yaml(f"key: {text}") == {"key": scalar(text)}


def test_a_quoted_value_is_a_text():
    assert parse_yaml("[\"1\", 'no', '', \"null\"]") == ["1", "no", "", "null"]


# ---- settings.ini, the environment, the project -----------------------------------------------------

INI = [
    row("[serve]", "[serv]", says="'serv' | settings.ini | did you mean 'serve'?"),
    row("[app]", "[root]", says="Unknown section 'root' | settings.ini"),
    row("port = 8000", "prot = 8000", says="'prot' | serve.prot | did you mean 'port'?"),
    row("reports = reports", "report = reports", says="paths.report | did you mean 'reports'?"),
    row("port = 8000", "port = many", says="serve.port | integer | 'many'"),
    row("port = 8000", "port = 70000", says="serve.port | 65535 | '70000'"),
    row("port = 8000", "port = 80\nport = 81", says="settings.ini cannot be read | already exists"),
    row("[app]", "[serve]", says="settings.ini cannot be read | already exists"),
    row("[project]", "project", says="settings.ini cannot be read | section headers"),
    row("params = params.yaml", "params = nope.yaml", says="params.yaml is not there | nope.yaml"),
]
ENVIRONMENT = [
    row("SERVE__PROT", "1", says="'prot' | did you mean 'port'?"),
    row("SERVE__PORT", "many", says="serve.port | integer | 'many'"),
    row("SERVE__PORT__X", "1", says="'port' holds a value, not a block"),
    row("SERVE", "1", says="'serve' does not fit | '1'"),
    row("SERV__PORT", "1", says="'serv' | RF_MLOPS_SERV__PORT | did you mean 'serve'?"),
    row("ROOT", "/", says="No case or section 'root' | RF_MLOPS_ROOT"),
    row("ROOT__X", "1", says="No case or section 'root' | RF_MLOPS_ROOT__X"),
    row("IRIS__SEDE", "1", says="'sede' | did you mean 'seed'?"),
    row("IRIS__SEED", "five", says="cases.iris.seed | integer | 'five'"),
    row("IRIS__SPLIT__FOLDS", "1e3", says="split.folds | integer | 1000.0"),
    row("WINE__SEED", "1", says="'wine' | RF_MLOPS_WINE__SEED"),
    row("PATHS__PARAMS", "nope.yaml", says="params.yaml is not there | nope.yaml"),
]


@pytest.mark.parametrize(("old", "new", "words"), INI)
def test_a_wrong_line_in_settings(project, command, old, new, words):
    change(project, old, new, "settings.ini")
    told(command("train", "iris"), words)
    nothing_ran(project)


def test_settings_in_another_encoding(project, command):
    (project / "settings.ini").write_bytes("[project]\nname = é\n".encode("latin-1"))
    told(command("models"), ["settings.ini cannot be read", "utf-8"])


@pytest.mark.parametrize(("name", "value", "words"), ENVIRONMENT)
def test_a_wrong_variable(project, command, name, value, words):
    told(command("train", "iris", **{f"RF_MLOPS_{name}": value}), words)
    nothing_ran(project)


def test_right_variables_win(project):
    env = {"RF_MLOPS_SERVE__PORT": "9000", "RF_MLOPS_IRIS__MODEL__PARAMS__N_ESTIMATORS": "7"}
    env |= {"RF_MLOPS_IRIS__GATES__MARGIN": "1e-3", "RF_MLOPS_TRACKING__URI": "http://x"}
    settings = load_settings(project, env)
    case = load_case("iris", params=load_params(settings, env=env))
    assert (settings.serve.port, settings.tracking_uri) == (9000, "http://x")
    assert case.model.params["n_estimators"] == 7
    assert case.gates.margin == 0.001


def test_no_project(project, rf_mlops, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    wrong = rf_mlops("models", cwd=elsewhere, env={"RF_MLOPS_PROJECT": str(elsewhere)})
    told(wrong, ["RF_MLOPS_PROJECT names no project", str(elsewhere), "settings.ini"])
    monkeypatch.delenv("RF_MLOPS_PROJECT")
    told(
        rf_mlops("models", cwd=elsewhere), ["No project found", str(elsewhere), "RF_MLOPS_PROJECT"]
    )
    deep = project / "nbs" / "runs"
    assert find_root(deep, env={}) == project.resolve()


# ---- the command line -------------------------------------------------------------------------------

SETS = [
    row("iris", says="--set | case.key.key=value | 'iris'"),
    row("iris=3", says="--set | case.key.key=value"),
    row("iris.=3", says="--set | case.key.key=value"),
    row(".seed=3", says="--set | case.key.key=value"),
    row("iris.model.params.n_estimators", says="--set | case.key.key=value"),
    row("wine.seed=3", says="'wine' | --set wine.seed=3 | iris"),
    row("iirs.seed=3", says="'iirs' | did you mean 'iris'?"),
    row("iris.modle.type=x", says="'modle' | did you mean 'model'?"),
    row("iris.columns.sepal_width.unti=mm", says="'unti' | did you mean 'unit'?"),
    row("iris.gates.margn=1", says="gates.margn | did you mean 'margin'?"),
    row("iris.classes=[a", says="valid YAML | --set"),
    row("iris.split.folds.x=1", says="'folds' holds a value, not a block"),
    row("iris.split=5", says="'split' does not fit | 5"),
    row("iris.split.folds=five", says="split.folds | integer | 'five'"),
    row("iris.split.folds=010", says="split.folds | integer | '010'"),
    row("iris.target=", says="target | string | None"),
]
WORDS = [
    row(["train", "iirs"], says="No case 'iirs' | did you mean 'iris'?"),
    row(["run", "iris", "wine"], says="No case 'wine' | iris"),
    row(["train", "iris", "--size", "ful"], says="no size 'ful' | did you mean 'full'?"),
    row(["models", "iirs"], says="No case 'iirs' | did you mean 'iris'?"),
    row(["promote", "iirs"], says="No case 'iirs' | did you mean 'iris'?"),
    row(["rollback", "iirs"], says="No case 'iirs' | did you mean 'iris'?"),
    row(["promote", "iris"], says="no challenger of 'iris' | rf-mlops train iris"),
    row(["promote", "iris", "9"], says="no version 9 of 'iris'"),
    row(["rollback", "iris"], says="no earlier champion of 'iris'"),
]
USAGE = [
    row(["trian"], says="No such command 'trian' | Did you mean 'train'?"),
    row(["train"], says="Missing argument"),
    row(["train", "iris", "--sed", "1"], says="No such option | --sed"),
    row(["train", "iris", "--seed", "five"], says="Invalid value | --seed"),
    row(["train", "iris", "--seed", "-2"], says="Invalid value | --seed"),
    row(["promote", "iris", "0"], says="Invalid value"),
    row(["promote", "iris", "first"], says="Invalid value"),
]


@pytest.mark.parametrize(("text", "words"), SETS)
def test_a_wrong_set(project, command, text, words):
    told(command("train", "iris", "--set", text), words)
    nothing_ran(project)


def test_right_sets_are_typed(project):
    sets = ("iris.model.params.max_depth=3", "iris.title=010", "iris.split.by=[sepal_width]")
    sets += ('iris.question="5"', "iris.gates.minimum.log_loss=1e-3")
    case = load_case("iris", params=load_params(load_settings(project), sets=sets))
    assert case.model.params["max_depth"] == 3
    assert (case.title, case.question) == ("010", "5")
    assert case.split.by == ["sepal_width"]
    assert case.gates.minimum == {"accuracy": 0.85, "log_loss": 0.001}


@pytest.mark.parametrize(("given", "words"), WORDS)
def test_names_that_are_not_there(project, command, given, words):
    told(command(*given), words)
    assert not (project / "reports").exists()


def test_nothing_but_the_error_is_told(project, rf_mlops):
    done = rf_mlops("promote", "iris")
    told(done, ["no challenger of 'iris'"])
    assert done.stderr.startswith("Error: ")


@pytest.mark.parametrize(("given", "words"), USAGE)
def test_wrong_usage(project, command, given, words):
    done = command(*given)
    said = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == WRONG_INPUT
    assert [w for w in words if w not in said] == [], said
    nothing_ran(project)


# ---- the data ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flowers() -> pd.DataFrame:
    from rf_mlops.data import SklearnSource

    return SklearnSource("iris", "species")()


def case_on(project, edit_iris, rows: pd.DataFrame | str | bytes, **values) -> Case:
    "The iris case on a CSV file of its own."
    content = rows.to_csv(index=False) if isinstance(rows, pd.DataFrame) else rows
    path = project / "flowers.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    edit_iris(project, data={"type": "csv", "params": {"path": "flowers.csv"}}, **values)
    return load_case("iris", params=load_params(load_settings(project)))


HEADER = "sepal_length,sepal_width,petal_length,petal_width"
FILES = [
    row(b"", says="CSV file cannot be read | flowers.csv"),
    row(b"  \n\n", says="CSV file cannot be read | flowers.csv"),
    row(f"{HEADER},species\n".encode(), says="The data have no rows | at least one row"),
    row(f"{HEADER}\n1,2,3,4\n".encode(), says="No column 'species' | target"),
    row(f"{HEADER},specis\n1,2,3,4,setosa\n".encode(), says="'species' | mean 'specis'?"),
    row(f"{HEADER},species\n1,2,3,4,5,6\n1,2\n".encode(), says="value(s) do not fit"),
    row(f"{HEADER},species\n1,2,3,4,5\n1,2,3,4,5,6\n".encode(), says="cannot be read | line 3"),
    row(f"{HEADER},species\n1,2,3,4,é\n".encode("latin-1"), says="cannot be read | utf-8"),
    row(HEADER.replace(",", ";").encode() + b";species\n1;2;3;4;a\n", says="No column 'species'"),
    row(b"sepal_length,species\n1,setosa\n", says="No column 'sepal_width' in the data"),
]
SOURCES = [
    row({"type": "cvs"}, says="Unknown type 'cvs' | data.type | did you mean 'csv'?"),
    row({"type": "csv"}, says="cannot be made | data.params | 'path'"),
    row({"type": "csv", "params": {"pth": "x"}}, says="'pth' | did you mean 'path'?"),
    row({"type": "csv", "params": {"path": 5}}, says="cannot be made | not int"),
    row({"type": "csv", "params": {"path": "param.yaml"}}, says="not there | mean 'params.yaml'?"),
    row({"type": "csv", "params": {"path": "no/no.csv"}}, says="file is not there | no.csv"),
    row({"type": "csv", "params": {"path": "nbs"}}, says="file is not there"),
    row({"type": "parquet", "params": {"path": "params.yaml"}}, says="Parquet file cannot be read"),
    row({"type": "sklearn", "params": {"name": "irs"}}, says="'irs' | did you mean 'iris'?"),
    row({"type": "sklearn"}, says="cannot be made | 'name'"),
    row({"type": "no_module_of_that_name:Class"}, says="cannot be imported | no_module"),
    row({"type": "rf_mlops.data:CvsSource"}, says="cannot be imported | CvsSource"),
    row(
        {"type": "csv", "params": {"path": "settings.ini", "separator": ""}},
        says="separator is not one character | data.params.separator",
    ),
]


@pytest.mark.parametrize(("content", "words"), FILES)
def test_a_file_that_is_no_table_of_flowers(project, edit_iris, content, words):
    case = case_on(project, edit_iris, content)
    refuses(lambda: ingest(case, load_settings()), words)


@pytest.mark.parametrize(("source", "words"), SOURCES)
def test_a_source_that_cannot_be_made(project, edit_iris, source, words):
    edit_iris(project, data=source)
    refuses(lambda: ingest(load_case("iris"), load_settings()), words)


def test_bad_rows_are_set_aside_and_listed(project, edit_iris, flowers):
    rows = flowers.astype({"sepal_length": object})
    rows.loc[0, "sepal_length"] = "long"
    rows.loc[7, "petal_width"] = -3
    rows.loc[9, "species"] = "setoza"
    taken = ingest(case_on(project, edit_iris, rows), load_settings())
    assert (taken.rows, taken.bad_rows, len(taken.frame)) == (150, 3, 147)
    assert [(e.row, e.column, e.got) for e in taken.errors] == [
        (1, "sepal_length", "'long'"),
        (8, "petal_width", "-3.0"),
        (10, "species", "'setoza'"),
    ]
    assert taken.errors[1].expected == "a number from 0 up to 30 cm, not empty"


def test_all_rows_bad(project, edit_iris, flowers):
    case = case_on(project, edit_iris, flowers.assign(sepal_length="long"))
    text = refuses(
        lambda: ingest(case, load_settings()),
        ["150 value(s) do not fit", "row 1, sepal_length", "'long'", "… and 130 more"],
    )
    assert len(text.splitlines()) < 30


def trained_on(case: Case):
    taken = ingest(case, load_settings())
    return train(case, taken.schema, taken.frame)


ROWS = [  # positions of 150 rows: 50 setosa, 50 versicolor, 50 virginica
    row(
        [*range(3), *range(50, 150)],
        says="class has too few training rows | split.folds | 5 a class",
    ),
    row([0, 60, 120, 61, 121], says="Too few different rows | split.folds"),
    row([0], says="Too few rows to hold any out | 1 rows"),
    row(
        [*range(100)],
        says="class has too few training rows",
    ),
]


@pytest.mark.parametrize(("positions", "words"), ROWS)
def test_too_few_rows(project, edit_iris, flowers, positions, words):
    case = case_on(project, edit_iris, flowers.iloc[positions])
    refuses(lambda: trained_on(case), words)


def test_a_number_that_is_none_is_a_bad_row_of_a_regression_too(project, edit_iris, flowers):
    rows = flowers.drop(columns="species").astype({"petal_width": object})
    rows.loc[4, "petal_width"] = "wide"

    def as_regression(block):
        for key in ("classes", "sizes"):
            del block[key]
        del block["columns"]["petal_width"]
        block |= {"task": "regression", "metric": "rmse", "target": "petal_width", "gates": {}}
        block["model"] = {"type": "linear"}

    case = case_on(project, edit_iris, rows, change=as_regression)
    taken = ingest(case, load_settings())
    assert [(e.row, e.column, e.got) for e in taken.errors] == [(5, "petal_width", "'wide'")]


# ---- the case: model, metric, features --------------------------------------------------------------

FOREST = "random_forest"
CASES = [
    row({"target": "specie"}, says="No column 'specie' | target | did you mean 'species'?"),
    row({"drop": ["sepal_lenght"]}, says="'sepal_lenght' | did you mean 'sepal_length'?"),
    row({"split": {"by": ["sepal"]}}, says="No column 'sepal' in the data"),
    row({"columns": {"petal_widht": {"unit": "cm"}}}, says="'petal_widht' | mean 'petal_width'?"),
    row({"model": {"type": "random_forst"}}, says="model.type | did you mean 'random_forest'?"),
    row({"model": {"type": "linear"}}, says="Unknown type 'linear' | logistic"),
    row({"model": {"type": "sklearn.svm:SVM"}}, says="cannot be imported | SVM"),
    row({"model": {"type": FOREST, "params": {"n_estimator": 3}}}, says="mean 'n_estimators'?"),
    row(
        {"model": {"type": FOREST, "params": {"n_estimators": "many"}}},
        says="cannot be fitted | cases.iris.model | 'n_estimators' | int | 'many'",
    ),
    row({"model": {"type": FOREST, "params": {"oob_score": "yes"}}}, says="'oob_score' | 'yes'"),
    row({"model": {"type": FOREST, "params": {"max_depth": 1.5}}}, says="'max_depth' | 1.5"),
    row({"prepare": [{"op": "rare"}]}, says="Unknown operation 'rare' | did you mean 'rare@1'?"),
    row(
        {"prepare": [{"op": "missing_flg@1", "params": {"source": "sepal_width"}}]},
        says="Unknown operation 'missing_flg@1' | did you mean 'missing_flag@1'?",
    ),
    row(
        {"prepare": [{"op": "missing_flag@1", "params": {"sorce": "sepal_width"}}]},
        says="parameters of 'missing_flag@1' do not fit | sorce",
    ),
    row(
        {"prepare": [{"op": "missing_flag@1", "params": {"source": "sepal"}}]},
        says="parameters of 'missing_flag@1' do not fit | 'sepal'",
    ),
    row({"split": {"folds": 50}}, says="class has too few training rows | 50 a class"),
    row(
        {"columns": {}, "drop": HEADER.split(",")},
        says="There are no features left | cases.iris | one feature at least",
    ),
]


@pytest.mark.parametrize(("values", "words"), CASES)
def test_a_case_that_cannot_be_trained(project, edit_iris, flowers, values, words):
    case = case_on(project, edit_iris, flowers, **values)
    refuses(lambda: trained_on(case), words)


def test_a_class_of_a_library_is_found_from_any_folder(
    project, edit_iris, flowers, tmp_path, monkeypatch
):
    case = case_on(
        project, edit_iris, flowers, model={"type": "sklearn.ensemble:ExtraTreesClassifier"}
    )
    assert trained_on(case).pipeline[-1].__class__.__name__ == "ExtraTreesClassifier"


def test_a_part_is_found_from_another_folder(project, edit_iris, flowers, tmp_path, monkeypatch):
    case = case_on(project, edit_iris, flowers)
    part = case.data.model_copy(
        update={"type": "rf_mlops.data:CsvSource", "params": {"path": "flowers.csv"}}
    )
    settings = load_settings(project)
    monkeypatch.delenv("RF_MLOPS_PROJECT")
    monkeypatch.chdir(tmp_path)
    assert ingest(case.model_copy(update={"data": part}), settings).rows == 150


METRICS = [
    row("acuracy", "classification", says="No metric 'acuracy' | did you mean 'accuracy'?"),
    row("rmse", "classification", says="No metric 'rmse' for a classification | accuracy"),
    row("accuracy", "regression", says="No metric 'accuracy' for a regression | rmse"),
]


@pytest.mark.parametrize(("name", "task", "words"), METRICS)
def test_a_metric_that_the_task_does_not_have(name, task, words):
    refuses(lambda: metric_of(name, task), words)


# ---- a run from end to end --------------------------------------------------------------------------


def test_a_bad_row_refuses_and_is_listed_in_the_report(project, edit_iris, flowers, rf_mlops):
    rows = flowers.astype({"sepal_length": object})
    rows.loc[0, "sepal_length"] = "long"
    case_on(project, edit_iris, rows)
    done = rf_mlops("train", "iris")
    assert (done.returncode, "Traceback" in done.stdout + done.stderr) == (REFUSED, False)
    assert "Refused by: data fit the schema" in done.stdout
    (found,) = (project / "reports" / "iris").glob("*/run.json")
    record = json.loads(found.read_text())
    (gate,) = [g for g in record["gates"] if not g["passed"]]
    assert (gate["name"], gate["got"]) == ("data fit the schema", "1 of 150 rows")
    page = found.with_name("report.html").read_text()
    assert "1 of 150 rows were set aside" in page
    assert "sepal_length" in page and "long" in page


def test_a_run_that_cannot_be_trained_has_failed_and_says_why(project, edit_iris, rf_mlops):
    edit_iris(project, split__by=["sepal_lenght"])
    done = rf_mlops("train", "iris")
    assert (done.returncode, "Traceback" in done.stdout + done.stderr) == (FAILED, False)
    assert "No column 'sepal_lenght' in the data" in done.stdout
    assert "did you mean 'sepal_length'?" in done.stdout
    (found,) = (project / "reports" / "iris").glob("*/run.json")
    record = json.loads(found.read_text())
    assert (record["status"], record["verdict"]) == ("failed", "failed")
    assert "Traceback" not in found.with_name("report.html").read_text()


EARLY = [
    row({"model__params__n_estimator": 3}, says="n_estimators"),
    row({"metric": "acuracy"}, says="did you mean 'accuracy'?"),
    row({"gates__minimum__acuracy": 0.5}, says="did you mean 'accuracy'?"),
    row({"model__type": "random_forst"}, says="did you mean 'random_forest'?"),
    row({"data": {"type": "csv", "params": {"path": "param.yaml"}}}, says="file is not there"),
]


@pytest.mark.parametrize(("values", "words"), EARLY)
def test_wrong_names_are_told_before_a_kernel_starts(project, edit_iris, command, values, words):
    edit_iris(project, **values)
    told(command("train", "iris"), words)
    nothing_ran(project)


def test_a_wrong_operation_is_told_before_a_kernel_starts(project, edit_iris, command):
    edit_iris(project, prepare=[{"op": "rare"}])
    told(command("train", "iris"), ["did you mean 'rare@1'?"])
    nothing_ran(project)


PARAMETERS = [
    row("train", {"cas": "iris"}, says="'cas' | train.ipynb | did you mean 'case'?"),
    row("train", {"case": 3}, says="'case' has the wrong type | str | 3"),
    row("train", {"case": "iris", "seed": "7"}, says="'seed' has the wrong type | int | '7'"),
    row("train", {"case": "iris", "seed": True}, says="'seed' has the wrong type | int | True"),
    row("train", {"case": "iris", "seed": 7.0}, says="'seed' has the wrong type | int | 7.0"),
    row("train", {"case": "iris", "promote": "no"}, says="'promote' | bool | 'no'"),
    row("train", {"case": "iris", "promote": 1}, says="'promote' | bool | 1"),
    row("train", {"case": "iris", "size": None}, says="'size' | str | None"),
    row("trian", {}, says="no run notebook 'trian' | did you mean 'train'?"),
    row("../../secret", {}, says="no run notebook"),
]


@pytest.mark.parametrize(("notebook", "given", "words"), PARAMETERS)
def test_a_run_with_wrong_parameters_does_not_begin(project, notebook, given, words):
    refuses(lambda: execute(notebook, given, load_settings()), words)
    nothing_ran(project)


# ---- asking a model ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def champion(trained):
    from rf_mlops import load

    return load("iris@champion", load_settings(trained))


NAMES = HEADER.split(",")
GOOD = dict(zip(NAMES, [5.1, 3.5, 1.4, 0.2], strict=True))
COLUMNS = {name: [value] * 3 for name, value in GOOD.items()}
FRAME = pd.DataFrame(COLUMNS)
CELL = "value(s) do not fit | sepal_length | a number from 0 up to 30 cm, not empty | iris"


def with_cell(value) -> dict:
    return {**GOOD, "sepal_length": value}


TABLES = [
    row("frame without a column", FRAME[NAMES[:3]], says="No column 'petal_width' | iris"),
    row(
        *("frame misspelt", FRAME.rename(columns={"petal_length": "petal_lenght"})),
        says="No column 'petal_length' | petal_lenght",
    ),
    row("columns without one", {n: COLUMNS[n] for n in NAMES[1:]}, says="No column 'sepal_length'"),
    row("no columns", {}, says="No column 'sepal_length'"),
    row(
        *("record misspelt", [GOOD, {**GOOD, "petal_lenght": 1}]),
        says="Unknown column 'petal_lenght' | row 2 | did you mean 'petal_length'?",
    ),
    row("lone record", {**GOOD, "sepal": 1}, says="Unknown column 'sepal' | 'sepal_width'?"),
    row("text", [GOOD, with_cell("long")], says=f"{CELL} | row 2 | 'long'"),
    row("truth", [with_cell(True)], says=f"{CELL} | row 1 | True"),
    row("nothing", [with_cell(None)], says=f"{CELL} | row 1 | got nothing"),
    row("too large", [with_cell(99)], says=f"{CELL} | row 1 | 99"),
    row("too small", FRAME.assign(sepal_length=-0.1), says=f"{CELL} | row 3 | -0.1"),
    row("nan", FRAME.assign(sepal_length=np.nan), says=f"3 {CELL} | got nothing"),
    row("inf", FRAME.assign(sepal_length=np.inf), says=f"{CELL} | inf"),
    row(
        *("huge", [with_cell(10**400)]),
        says=f"{CELL} | row 1",
    ),
    row("dates", FRAME.assign(sepal_length=pd.Timestamp("2020-01-01")), says=f"3 {CELL}"),
    row("nullable", FRAME.astype("Float64").mask(FRAME > 5), says=f"3 {CELL} | got nothing"),
    row("short row", [[5.1, 3.5, 1.4]], says="wrong length | row 1 | 4 values | 3 values"),
    row("long row", [[1, 2, 3, 4], [1, 2, 3, 4, 5]], says="wrong length | row 2 | 5 values"),
    row("wrong shape", np.zeros((2, 3)), says="wrong length | row 1 | 3 values"),
    row("a text", "iris", says="This is no table | a frame, columns, records | got: 'iris'"),
    row("a number", 5, says="This is no table | got: 5"),
    row("nobody", None, says="This is no table | got: None"),
    row("a series", FRAME.iloc[0], says="This is no table | Series"),
    row("empty csv", b" \n", says="The CSV file is empty | a header"),
    row("csv ragged", f"{HEADER}\n1,2,3,4\n1,2\n".encode(), says="cannot be read | 2 cells: 1,2"),
    row("csv twice", f"{HEADER},petal_width\n1,2,3,4,5\n".encode(), says="'petal_width' | twice"),
    row("csv uncertain", f'{HEADER}\n"5,123",1,1,1\n'.encode(), says=f"{CELL} | '5,123'"),
    row("parquet cut", b"PAR1abc", says="The Parquet file cannot be read"),
    *(
        row(name, table, says="")
        for name, table in {
            "columns of unequal length": {**COLUMNS, "sepal_length": [5.1]},
            "columns of unequal length, all long": {**COLUMNS, "sepal_length": [5.1, 5.2]},
            "a lone value among columns": {**COLUMNS, "sepal_length": 5.1},
            "a text as a column": {**COLUMNS, "sepal_length": "511"},
            "a row without its brackets": [5.1, 3.5, 1.4, 0.2],
            "an array without its rows": np.array([5.1, 3.5, 1.4, 0.2]),
            "an array of three dimensions": np.zeros((2, 4, 1)),
            "a list in a cell": [with_cell([5.1])],
            "records and others": [GOOD, 5],
            "a frame with one column twice": pd.concat([FRAME, FRAME[["sepal_width"]]], axis=1),
            "columns named by numbers": dict(enumerate(COLUMNS.values())),
            "complex numbers": FRAME.assign(sepal_length=1j),
        }.items()
    ),
]


@pytest.mark.filterwarnings("ignore:Casting complex")
@pytest.mark.parametrize(("name", "table", "words"), TABLES)
def test_a_table_that_does_not_fit(champion, name, table, words):
    refuses(lambda: champion.predict(table), words)
    refuses(lambda: champion.predict_proba(table), words)


def test_a_table_without_rows_has_no_answers(champion):
    for table in ([], f"{HEADER}\n".encode(), FRAME[:0], {n: [] for n in NAMES}):
        assert champion.predict(table).shape == (0,)
        assert champion.predict_proba(table).shape == (0, 3)


REFERENCES = [
    row("iris@champoin", says="no model 'iris@champoin' | did you mean 'champion'?"),
    row("iris@previous", says="no model 'iris@previous' | champion"),
    row("iris/9", says="There is no model 'iris/9'"),
    row("wine", says="no model 'wine' | rf-mlops train wine"),
    row("iris@", says="This is no model | case, case@alias or case/version"),
    row("iris/one", says="This is no model | 'iris/one'"),
    row("../iris", says="This is no model | '../iris'"),
    row("Iris@Champion", says="This is no model"),
    row("iris'; DROP TABLE runs; --", says="This is no model"),
    row("iris/99999999999999999999", says="no model"),
]


@pytest.mark.parametrize(("reference", "words"), REFERENCES)
def test_a_reference_to_no_model(trained, reference, words):
    from rf_mlops import load

    refuses(lambda: load(reference, load_settings(trained)), words)


def test_a_project_in_which_nothing_was_trained(project):
    from rf_mlops import load

    refuses(lambda: load("iris"), ["There is no model 'iris'", "rf-mlops train iris"])
    nothing_ran(project)


BUNDLE_FILES = [
    "golden.json",
    "model.onnx",
    "prepare.json",
    "schema.json",
    "provenance.json",
    "MLmodel",
]


def champions_folder(project):
    (folder,) = (project / "mlruns" / "artifacts").glob("*/*/artifacts/bundle")
    return folder


@pytest.mark.parametrize("name", [*BUNDLE_FILES, "manifest.json"])
def test_a_bundle_that_was_changed_on_disk(trained_copy, name):
    from rf_mlops import load

    path = champions_folder(trained_copy) / name
    sound = path.read_bytes()
    path.write_bytes(sound[:-2])
    words = ["bundle" if name == "manifest.json" else "A file of the bundle was changed", name]
    refuses(lambda: load("iris@champion"), words)
    path.unlink()
    refuses(lambda: load("iris@champion"), ["bundle", name])
    path.write_bytes(sound)
    assert load("iris@champion").predict([GOOD]).tolist() == ["setosa"]


def test_a_copied_project_answers_from_its_own_files(trained, tmp_path):
    from rf_mlops import load

    shutil.copytree(trained, tmp_path / "copy")
    (champions_folder(tmp_path / "copy") / "model.onnx").write_bytes(b"")
    refuses(lambda: load("iris", load_settings(tmp_path / "copy")), ["was changed", "model.onnx"])


def test_a_bundle_whose_hashes_were_changed_along(trained_copy):
    from rf_mlops import load
    from rf_mlops.bundle import as_json, digest, model_hash

    folder = champions_folder(trained_copy)
    golden = json.loads((folder / "golden.json").read_bytes())
    golden["answers"].reverse()
    (folder / "golden.json").write_bytes(as_json(golden))
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["golden.json"] = digest((folder / "golden.json").read_bytes())
    (folder / "manifest.json").write_bytes(as_json(manifest))
    refuses(lambda: load("iris@champion"), ["The bundle's manifest was changed"])
    manifest["model_hash"] = model_hash(manifest["files"])
    (folder / "manifest.json").write_bytes(as_json(manifest))
    refuses(lambda: load("iris@champion"), ["answers its golden rows wrongly", "roll back"])
    shutil.rmtree(folder)
    refuses(lambda: load("iris@champion"), ["This is not a bundle"])


# ---- every row counts: fingerprints, keys, shares, tables -------------------------------------------

MANY = 20_000


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    "Rows of every kind that a frame can hold."
    draw = np.random.default_rng(5)
    start = pd.Timestamp("2015-06-01")
    return pd.DataFrame(
        {
            "integer": draw.integers(-(2**62), 2**62, MANY),
            "number": draw.normal(size=MANY),
            "boolean": draw.random(MANY) < 0.5,
            "moment": start + pd.to_timedelta(draw.integers(0, 10**15, MANY), unit="us"),
            "there": (start + pd.to_timedelta(np.arange(MANY), unit="s")).tz_localize(
                "Europe/Paris"
            ),
            "text": draw.choice(["a", "b", "None", ""], MANY),
            "gaps": pd.Series(draw.choice(["a", None], MANY), dtype=object),
            "level": pd.Categorical(draw.choice(["low", "high"], MANY)),
            "maybe": pd.array(draw.choice([True, False, None], MANY), dtype="boolean"),
        }
    )


OTHER = {
    "integer": lambda v: v + 1,
    "number": lambda v: np.nextafter(v, np.inf),
    "boolean": lambda v: not v,
    "moment": lambda v: v + pd.Timedelta(1, "us"),
    "there": lambda v: v + pd.Timedelta(1, "s"),
    "text": lambda v: f"{v} ",
    "gaps": lambda v: "None" if v is None else None,
    "level": lambda v: "low" if v == "high" else "high",
    "maybe": lambda v: True if v is pd.NA else pd.NA,
}


@pytest.mark.parametrize("position", [0, 9_999, 10_000, 10_001, MANY - 1])
@pytest.mark.parametrize("name", OTHER)
def test_any_single_cell_changes_the_fingerprint(many, name, position):
    before = fingerprint(many[[name, "number"]].set_axis([name, "beside"], axis=1))
    other = many[[name, "number"]].set_axis([name, "beside"], axis=1)
    other.loc[position, name] = OTHER[name](other.loc[position, name])
    assert other[name].dtype == many[name].dtype
    after = fingerprint(other)
    assert after.digest != before.digest
    assert after.columns[name] != before.columns[name]
    assert after.columns["beside"] == before.columns["beside"]


def test_what_else_changes_the_fingerprint(many):
    before = fingerprint(many)
    swapped = many.iloc[[1, 0, *range(2, MANY)]]
    others = {
        "one row less": many[:-1],
        "two rows exchanged": swapped,
        "columns exchanged": many[many.columns[::-1]],
        "a column renamed": many.rename(columns={"text": "texts"}),
        "another type": many.astype({"boolean": "int64"}),
        "a column less": many.drop(columns="gaps"),
    }
    assert [k for k, frame in others.items() if fingerprint(frame).digest == before.digest] == []
    assert fingerprint(many.set_axis(many.index[::-1])) == before  # the index is no part of it
    assert fingerprint(many.copy()) == before


def pair(one, other):
    return pd.DataFrame({"x": one}), pd.DataFrame({"x": other})


NANO = np.array(["2020-01-01T00:00:00.000000001", "2020-01-02"], dtype="datetime64[ns]")
ALIKE = {
    "nanoseconds": pair(NANO, NANO.astype("datetime64[us]").astype("datetime64[ns]")),
    "large integers with gaps": pair(
        pd.array([2**53, None], dtype="Int64"), pd.array([2**53 + 1, None], dtype="Int64")
    ),
    "numbers and texts mixed": pair(
        pd.Series([1, "a"], dtype=object), pd.Series(["1", "a"], dtype=object)
    ),
}


@pytest.mark.parametrize("name", ALIKE)
def test_rarer_differences_change_the_fingerprint(name):
    one, other = ALIKE[name]
    assert fingerprint(one).digest != fingerprint(other).digest


def test_row_keys_know_no_order_and_no_index(many):
    by = list(many.columns)
    keys = row_keys(many, by)
    assert len(np.unique(keys)) == MANY
    order = np.random.default_rng(1).permutation(MANY)
    assert (row_keys(many.iloc[order], by) == keys[order]).all()
    assert (row_keys(many.set_axis(many.index + 7), by) == keys).all()
    assert (row_keys(many[12_345:12_400], by) == keys[12_345:12_400]).all()


def test_a_gap_elsewhere_moves_no_row_to_the_other_side():
    whole = pd.DataFrame({"x": np.arange(100)})
    gap = pd.concat([whole, pd.DataFrame({"x": [None]})])["x"].astype(float).to_frame()
    assert (row_keys(gap, ["x"])[:100] == row_keys(whole, ["x"])).all()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5])
@pytest.mark.parametrize("by", [["integer"], ["number"], ["moment"], ["integer", "text", "level"]])
def test_the_share_of_test_rows_is_as_asked(many, by, share):
    test = is_test(row_keys(many, by), share)
    assert abs(test.mean() - share) < 4 * np.sqrt(share * (1 - share) / MANY)
    assert test[is_test(row_keys(many, by), share / 2)].all()  # a smaller share is a part of it


KINDS = pd.DataFrame(
    {
        "number": [0.1, -1e-300, 1 / 3, np.nan, 12345678.9],
        "integer": [0, -5, 2**53 - 1, 7, 10**12],
        "text": ["a", 'with "quotes", and more', "line\nbreak", "é€", None],
        "boolean": [True, False, True, True, False],
        "moment": pd.to_datetime(
            ["2020-02-29T12:00:00.123456", "1969-12-31", "2020-01-01", None, "2100-01-01"],
            format="ISO8601",
        ),
        "y": [1.0, 2.0, 3.0, 4.0, 5.0],
    }
)


def test_one_table_in_every_form_gives_the_same_columns():
    from io import BytesIO

    import pyarrow as pa

    case = {"data": {"type": "csv"}, "target": "y", "task": "regression", "metric": "rmse"}
    schema = learn_schema(KINDS, Case(name="kinds", model={"type": "linear"}, **case))
    assert [c.kind for c in schema.columns] == [
        *("number", "integer", "category", "boolean", "datetime")
    ]
    features = KINDS[schema.names]
    parquet = BytesIO()
    features.to_parquet(parquet)
    forms = {
        "frame": features,
        "arrow": pa.Table.from_pandas(features),
        "columns": {n: features[n].tolist() for n in features},
        "records": features.to_dict("records"),
        "rows": features.to_numpy(dtype=object).tolist(),
        "csv": features.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%S.%f").encode(),
        "parquet": parquet.getvalue(),
    }
    wanted = require(raw_columns(features, schema), schema)
    assert wanted["number"].tobytes() == KINDS["number"].to_numpy().tobytes()
    for form, table in forms.items():
        found = require(raw_columns(table, schema), schema)
        assert list(found) == schema.names, form
        for name, values in wanted.items():
            assert found[name].dtype == values.dtype, (form, name)
            same = found[name].tolist() == values.tolist() if values.dtype == object else None
            assert same or found[name].tobytes() == values.tobytes(), (form, name)


def test_a_comma_in_a_quoted_name_of_a_csv_file():
    names = ["length, mm", "width, mm", "length, in"]
    columns = tuple(Column(name, "number") for name in names)
    schema = Schema("leaf", "regression", "area", columns)
    assert list(from_csv(b'"length, mm","width, mm","length, in"\n1,2,3\n', schema)) == names
