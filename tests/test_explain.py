"""Answers taken apart: against Shapley's formula word for word, and against what every model answers."""

import json
import subprocess
import sys
import tracemalloc
from itertools import combinations
from math import factorial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, PoissonRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.tree import DecisionTreeRegressor

from rf_mlops import explain
from rf_mlops.bundle import compile_graph
from rf_mlops.explain import Explainer, pack, residual, take_apart, unpack
from rf_mlops.features import Prepare
from rf_mlops.predictor import open_session
from rf_mlops.schema import learn_schema
from rf_mlops.settings import Step, UserError, load_case
from rf_mlops.train import answers, encode_target, fit_pipeline

HEAVY = {"sklearn", "pandas", "scipy", "mlflow", "lightgbm", "matplotlib", "onnxruntime"}


# ---- the referee: subsets and recursions, nothing in common with the chapter ------------------------


def mean_answer(tree, row: np.ndarray, known: set, node: int = 0) -> np.ndarray:
    "What scikit-learn's tree is expected to answer when only the columns in `known` are."
    left, right = tree.children_left[node], tree.children_right[node]
    if left < 0:
        return tree.value[node, 0]
    x, cover = row[tree.feature[node]], tree.weighted_n_node_samples
    if tree.feature[node] in known:
        down = bool(tree.missing_go_to_left[node]) if np.isnan(x) else x <= tree.threshold[node]
        return mean_answer(tree, row, known, left if down else right)
    parts = [cover[n] * mean_answer(tree, row, known, n) for n in (left, right)]
    return sum(parts) / cover[node]


def shapley(tree, row: np.ndarray) -> np.ndarray:  # columns × outputs
    "Shapley's formula over all subsets."
    d = len(row)
    subsets = [frozenset(s) for size in range(d + 1) for s in combinations(range(d), size)]
    f = {known: mean_answer(tree, row, set(known)) for known in subsets}
    weights = [factorial(k) * factorial(d - 1 - k) / factorial(d) for k in range(d)]
    return np.array(
        [
            sum(weights[len(s)] * (f[s | {i}] - f[s]) for s in subsets if i not in s)
            for i in range(d)
        ]
    )


def random_tree(rng: np.random.Generator, columns: int, outputs: int, depth: int):
    "A tree as scikit-learn keeps them, with columns asked about again and again on the same path."
    nodes: list[list] = []

    def grow(level: int, cover: float) -> int:
        own = len(nodes)
        nodes.append([-1, -1, -2, 0.0, False, cover, rng.normal(size=outputs)])
        if level and rng.random() < 0.9:
            share = rng.uniform(0.05, 0.95) * cover
            nodes[own][2:5] = int(rng.integers(columns)), rng.normal(), bool(rng.integers(2))
            nodes[own][0] = grow(level - 1, share)
            nodes[own][1] = grow(level - 1, cover - share)
        return own

    grow(depth, rng.uniform(1, 100))
    left, right, feature, threshold, missing, cover, value = map(np.array, zip(*nodes, strict=True))
    return SimpleNamespace(
        children_left=left,
        children_right=right,
        feature=feature,
        threshold=threshold,
        missing_go_to_left=missing,
        weighted_n_node_samples=cover,
        value=value[:, None, :],
        n_leaves=int((left < 0).sum()),
    )


def explainer_of(trees: list, columns: int, outputs: int) -> Explainer:
    "Of trees whose columns are the inputs themselves."
    names = [f"x{i}" for i in range(columns)]
    plain = np.arange(columns)
    nodes = explain.nodes_of([(tree, list(range(outputs)), 1.0) for tree in trees], outputs)
    nothing = np.full(columns, np.nan, dtype=np.float32)
    arrays = {"format": 1, "kind": "trees", "unit": "value", "classes": np.zeros(0, dtype=int)}
    arrays |= {"inputs": names, "names": names, "group": plain, "input": plain, "fill": nothing}
    arrays |= {"mean": np.zeros(columns), "scale": np.ones(columns), "category": nothing}
    arrays |= {"base": explain.expectation(nodes), **nodes}
    document = {"inputs": [{"name": name} for name in names]}
    return Explainer(unpack(pack({k: np.asarray(v) for k, v in arrays.items()})), document)


@pytest.mark.parametrize("seed", range(6))
def test_random_trees_agree_with_all_subsets(seed):
    rng = np.random.default_rng(seed)
    columns, outputs = 5, 1 + seed % 3
    trees = [random_tree(rng, columns, outputs, depth) for depth in (8, 5, 1, 0)]
    rows = rng.normal(size=(6, columns)).astype(np.float32)
    rows[1, 2] = rows[2, 0] = rows[2, 3] = np.nan
    rows[3, 1], rows[3, 4] = -np.inf, np.inf
    rows[4] = np.nan
    explainer, shown = explainer_of(trees, columns, outputs), 0
    base, found = explainer.explain(rows)
    for row, own in zip(rows, found, strict=True):
        expected = sum(shapley(tree, row) for tree in trees)
        np.testing.assert_allclose(own, expected, rtol=0, atol=1e-12)
        shown += np.abs(expected).max() > 0.1
    assert shown == len(rows)  # there was something to explain
    asked = explain.questions(explainer._arrays, np.flatnonzero(explainer._arrays["left"] < 0))
    assert len(asked[0]) > len(explain.merged(asked)[0])  # and columns were asked about again
    expected = sum(mean_answer(tree, rows[0], set()) for tree in trees)
    np.testing.assert_allclose(base, expected, rtol=0, atol=1e-12)


def test_paths_longer_than_any_fitted_tree_add_up():
    "Forty different columns on one path: twenty nodes of the integral, and shares down to 2⁻⁴⁰."
    n = 40
    left = np.r_[np.arange(1, 2 * n, 2).repeat(1), 0]
    inner, leaf = np.arange(0, 2 * n, 2), np.arange(1, 2 * n, 2)
    left, right = np.full(2 * n + 1, -1), np.full(2 * n + 1, -1)
    left[inner], right[inner] = leaf, leaf + 1
    feature, cover = np.full(2 * n + 1, -2), np.zeros(2 * n + 1)
    feature[inner] = np.arange(n)
    cover[0] = 2.0**n
    for node in inner:
        cover[[node + 1, node + 2]] = cover[node] / 2
    chain = SimpleNamespace(
        children_left=left,
        children_right=right,
        feature=feature,
        threshold=np.zeros(2 * n + 1),
        missing_go_to_left=np.zeros(2 * n + 1, dtype=bool),
        weighted_n_node_samples=cover,
        value=np.r_[np.zeros(2 * n), 1.0][:, None, None],
        n_leaves=n + 1,
    )
    base, found = explainer_of([chain], n, 1).explain(np.ones((1, n), dtype=np.float32))
    np.testing.assert_allclose(found[0, :, 0], (1 - base[0]) / n, rtol=1e-12)  # all columns alike
    assert base[0] == 2.0**-n


# ---- cases with everything in them -------------------------------------------------------------------

STEPS = [
    Step(op="date_parts@1", params={"source": "at", "zone": "Europe/Paris"}),
    Step(op="rare@1", params={"source": "city", "at_least": 5}),
    Step(op="frequency@1", params={"source": "city"}),
    Step(op="product@1", params={"sources": ["length", "width"], "into": "area"}),
    Step(op="missing_flag@1", params={"source": "area"}),
    Step(op="missing_flag@1", params={"source": "length"}),
]


def orders(rows: int = 150) -> pd.DataFrame:
    "Rows with gaps, categories, a rare one, moments and numbers."
    rng = np.random.default_rng(3)
    city = rng.choice(np.array(["Lyon", "Paris", "Nice", None], dtype=object), rows)
    city[:2] = "Brest"
    at = pd.Timestamp("2015-06-01", tz="UTC") + pd.to_timedelta(np.arange(rows) * 7, unit="h")
    length = rng.gamma(2, 2, rows).astype(np.float32).astype(float)
    frame = pd.DataFrame({"at": at, "city": city, "length": length, "width": rng.normal(size=rows)})
    frame.loc[::7, "length"] = np.nan
    frame["at_night"] = rng.integers(0, 2, rows).astype(bool)  # not made from `at`
    score = frame["length"].fillna(5) + 2 * (frame["city"] == "Lyon") + frame["width"]
    frame["minutes"] = 10 * score + rng.normal(size=rows)
    frame["two"] = np.where(score + rng.normal(size=rows) > 4, "yes", "no")
    frame["three"] = np.array(["a", "b", "c"])[np.digitize(score + rng.normal(size=rows), [3, 6])]
    return frame


def fitted(target: str, kind: str, params: dict | None = None, steps: list | None = None):
    "A pipeline of the case that asks for this target: case, schema, frame, pipeline."
    frame = orders()
    frame = frame.drop(columns=[c for c in ("minutes", "two", "three") if c != target])
    classes = None if target == "minutes" else sorted(set(frame[target]))
    base = load_case("iris")
    case = base.model_copy(
        update={
            "target": target,
            "task": "classification" if classes else "regression",
            "classes": classes,
            "columns": {},
            "prepare": STEPS if steps is None else steps,
            "model": base.model.model_copy(update={"type": kind, "params": params or {}}),
        }
    )
    schema = learn_schema(frame, case)
    pipeline = fit_pipeline(case, schema, frame, encode_target(frame[target], schema))
    return SimpleNamespace(case=case, schema=schema, frame=frame, pipeline=pipeline)


def taken(pipeline, frame) -> tuple[Explainer, np.ndarray]:
    "Its explainer, by way of the file, and the matrix of the frame."
    matrix = pipeline["prepare"].transform(frame)
    return Explainer(
        unpack(pack(take_apart(pipeline, matrix))), pipeline["prepare"].document_
    ), matrix


SMALL = {"n_estimators": 12, "max_depth": 6}
SUPPORTED = [
    ("two", "random_forest", {**SMALL, "class_weight": "balanced"}, "probability", [0, 1]),
    ("three", "random_forest", SMALL, "probability", [0, 1, 2]),
    ("minutes", "random_forest", SMALL, "value", [0]),
    ("three", "sklearn.ensemble:ExtraTreesClassifier", SMALL, "probability", [0, 1, 2]),
    ("minutes", "sklearn.ensemble:ExtraTreesRegressor", SMALL, "value", [0]),
    ("three", "sklearn.tree:DecisionTreeClassifier", {}, "probability", [0, 1, 2]),
    ("minutes", "sklearn.tree:DecisionTreeRegressor", {}, "value", [0]),
    ("two", "gradient_boosting", {"n_estimators": 12}, "log-odds", [1]),
    ("two", "gradient_boosting", {"loss": "exponential", "subsample": 0.5}, "log-odds", [1]),
    ("three", "gradient_boosting", {"n_estimators": 12}, "log-odds", [0, 1, 2]),
    ("two", "gradient_boosting", {"init": "zero"}, "log-odds", [1]),
    ("minutes", "gradient_boosting", {"n_estimators": 12, "loss": "huber"}, "value", [0]),
    ("two", "logistic", {}, "log-odds", [1]),
    ("three", "logistic", {}, "log-odds", [0, 1, 2]),
    ("minutes", "linear", {}, "value", [0]),
    ("minutes", "sklearn.linear_model:LinearRegression", {}, "value", [0]),
    ("minutes", "sklearn.linear_model:ElasticNet", {}, "value", [0]),
    ("three", "dummy", {}, "probability", [0, 1, 2]),
    ("minutes", "dummy", {}, "value", [0]),
]


@pytest.mark.parametrize(
    ("target", "kind", "params", "unit", "outputs"),
    SUPPORTED,
    ids=[f"{kind.split(':')[-1]}-{target}-{len(p)}" for target, kind, p, *_ in SUPPORTED],
)
def test_contributions_add_up_to_the_answer(target, kind, params, unit, outputs):
    made = fitted(target, kind, params)
    explainer, matrix = taken(made.pipeline, made.frame)
    base, found = explainer.explain(matrix)
    assert (explainer.reason, explainer.unit, explainer.outputs) == ("", unit, outputs)
    assert explainer.names == ["city", "length", "width", "at_night", "at", "area"]
    assert found.shape == (len(matrix), 6, len(outputs)) and found.dtype == np.float64
    right = answers(made.pipeline, made.schema, made.frame)
    linear = "linear" in kind or kind == "logistic"  # scikit-learn computes those in float32
    assert residual(explainer, base, found, right) < (1e-6 if linear else 1e-12)
    if kind == "dummy":  # which has no compiled form
        assert not found.any()
        return
    assert residual(explainer, base, found[::-1], right) > 1e-2  # it does tell rows apart
    session = open_session(compile_graph(made))
    compiled = session.run([session.get_outputs()[-1].name], {"X": matrix})[0]
    assert residual(explainer, base, found, compiled) < 1e-6


@pytest.mark.parametrize("kind", ["random_forest", "gradient_boosting", "logistic"])
@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_a_class_that_training_lacked_stays_in_its_place(kind, lost):
    frame = orders().drop(columns=["minutes", "two"])
    frame["three"] = np.resize(["a", "b", "c", "d"], len(frame))
    base = load_case("iris")
    model = base.model.model_copy(update={"type": kind, "params": {}})
    if kind != "logistic":
        model = model.model_copy(update={"params": SMALL})
    case = base.model_copy(
        update={"target": "three", "columns": {}, "model": model, "classes": list("abcd")}
    )
    schema = learn_schema(frame, case)
    for absent in ([lost], [lost, (lost + 1) % 4]):
        y = encode_target(frame["three"], schema)
        some = ~np.isin(y, absent)
        pipeline = fit_pipeline(case, schema, frame[some], y[some])
        explainer, matrix = taken(pipeline, frame[some])
        base_, found = explainer.explain(matrix)
        right = answers(pipeline, schema, frame[some])
        assert right.shape[1] == 4
        assert residual(explainer, base_, found, right) < 1e-6
        assert explainer.classes == [c for c in range(4) if c not in absent]
        if kind == "random_forest":
            assert explainer.outputs == [0, 1, 2, 3]
            assert not found[:, :, absent].any() and not base_[absent].any()
        elif len(absent) == 2:
            assert explainer.outputs == explainer.classes[-1:]


def test_a_column_that_was_always_empty_and_a_tree_without_questions():
    made = fitted("minutes", "linear")
    frame = made.frame.assign(never=np.nan, nowhere=pd.Series([None] * 150, dtype=object))
    frame = frame[["never", "nowhere", *made.frame.columns]]
    schema = learn_schema(frame, made.case)
    y = encode_target(frame["minutes"], schema)
    with pytest.warns(UserWarning, match="without any observed values"):
        pipeline = fit_pipeline(made.case, schema, frame, y)
        right = answers(pipeline, schema, frame)
    explainer, matrix = taken(pipeline, frame)
    base, found = explainer.explain(matrix)
    assert residual(explainer, base, found, right) < 1e-6
    for name in ("never", "nowhere"):
        assert not found[:, explainer.names.index(name)].any()

    constant = DecisionTreeRegressor().fit(matrix, np.full(len(matrix), 3.5))
    alone = Pipeline([("prepare", pipeline["prepare"]), ("model", constant)])
    base, found = Explainer(take_apart(alone), pipeline["prepare"].document_).explain(matrix)
    assert base.tolist() == [3.5] and not found.any()


# ---- the parts, and not only their sum ---------------------------------------------------------------


def by_scikit(trees: list, factor: float, row: np.ndarray) -> np.ndarray:
    return factor * sum(shapley(tree.tree_, row) for tree in trees)


def narrow(model, y, rows: int = 120):
    "A pipeline on four number columns with gaps, without encoders: the model sees the gaps."
    frame = orders(rows)[["length", "width", "at_night"]]
    frame["more"] = np.random.default_rng(1).integers(0, 9, rows).astype(float)
    target = np.resize(["a", "b", "c"], rows) if y.dtype.kind == "i" else y
    schema = learn_schema(
        frame.assign(y=target),
        load_case("iris").model_copy(
            update={
                "target": "y",
                "columns": {},
                "classes": list("abc") if y.dtype.kind == "i" else None,
                "task": "classification" if y.dtype.kind == "i" else "regression",
            }
        ),
    )
    prepare = Prepare(schema).fit(frame)
    matrix = prepare.transform(frame)
    if "Boosting" in type(model).__name__:
        matrix = np.nan_to_num(matrix, nan=-1)
    return Pipeline([("prepare", prepare), ("model", model.fit(matrix, y))]), matrix


def three_classes(rows: int = 120) -> np.ndarray:
    return np.digitize(orders(rows)["width"] + orders(rows)["length"].fillna(9), [3, 6])


@pytest.mark.parametrize("forest", [RandomForestClassifier, ExtraTreesClassifier])
def test_a_forest_with_gaps_agrees_with_all_subsets(forest):
    pipeline, matrix = narrow(forest(4, max_depth=7, random_state=0), three_classes())
    assert np.isnan(matrix).any()
    base, found = Explainer(take_apart(pipeline), pipeline["prepare"].document_).explain(matrix)
    for i in (0, 1, 7, 14, 50):
        expected = by_scikit(pipeline[-1].estimators_, 1 / 4, matrix[i])
        np.testing.assert_allclose(found[i], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(base + found.sum(1), pipeline[-1].predict_proba(matrix), atol=1e-12)


def test_boosting_of_several_classes_agrees_with_all_subsets():
    model = GradientBoostingClassifier(n_estimators=5, learning_rate=0.3, random_state=0)
    pipeline, matrix = narrow(model, three_classes())
    explainer = Explainer(take_apart(pipeline), pipeline["prepare"].document_)
    base, found = explainer.explain(matrix)
    for k, stage in enumerate(model.estimators_.T):
        for i in (0, 7, 50):
            expected = by_scikit(stage, 0.3, matrix[i])[:, 0]
            np.testing.assert_allclose(found[i, :, k], expected, rtol=0, atol=1e-12)
    raw = model.decision_function(matrix)
    np.testing.assert_allclose(base + found.sum(1), raw, rtol=0, atol=1e-12)


def test_a_linear_model_gives_coefficient_times_distance_from_the_mean():
    pipeline, matrix = narrow(RandomForestRegressor(1), orders(120)["minutes"].to_numpy())
    matrix = np.nan_to_num(matrix, nan=2)
    model = LinearRegression().fit(matrix.astype(float), orders(120)["minutes"])
    pipeline = Pipeline([("prepare", pipeline["prepare"]), ("model", model)])
    explainer = Explainer(take_apart(pipeline, matrix), pipeline["prepare"].document_)
    base, found = explainer.explain(matrix[:9])
    mean = matrix.astype(float).mean(0)
    np.testing.assert_allclose(found[:, :, 0], (matrix[:9] - mean) * model.coef_, atol=1e-10)
    np.testing.assert_allclose(base, model.predict(matrix.astype(float)).mean(), rtol=1e-12)


@pytest.mark.parametrize("kind", ["gradient_boosting", "logistic"])
def test_a_column_gets_the_sum_of_what_was_made_from_it(kind):
    made = fitted("three", kind, {"n_estimators": 10} if kind == "gradient_boosting" else {})
    explainer, matrix = taken(made.pipeline, made.frame)
    _, found = explainer.explain(matrix)
    document = made.pipeline["prepare"].document_
    arrays = take_apart(made.pipeline, matrix)
    group, count = arrays["group"], len(arrays["group"])
    each = {**arrays, "group": np.arange(count), "names": np.array([f"c{i}" for i in range(count)])}
    _, apart = Explainer(each, document).explain(matrix)
    for i, name in enumerate(explainer.names):
        np.testing.assert_allclose(found[:, i], apart[:, group == i].sum(1), rtol=0, atol=1e-12)
        assert (group == i).sum() == {"at": 3, "city": 6, "area": 2, "length": 2}.get(name, 1)
    one_hot = apart[:, ~np.isnan(arrays["category"])]
    assert (np.abs(one_hot).max(axis=(0, 2)) > 0).sum() >= 2  # a sum of several


def test_names_follow_what_operations_read_not_what_things_are_called():
    steps = [
        *STEPS,
        Step(op="product@1", params={"sources": ["length", "length_missing"], "into": "both"}),
        Step(op="missing_flag@1", params={"source": "both"}),
        Step(op="product@1", params={"sources": ["area", "width"], "into": "volume"}),
    ]
    made = fitted("two", "random_forest", SMALL, steps)
    source = explain.sources_of(made.pipeline["prepare"].document_["steps"], made.schema)
    assert source["at_night"] == "at_night" and source["at_weekday"] == "at"
    assert source["city"] == source["city_frequency"] == "city"
    assert source["area"] == source["area_missing"] == "area"
    assert source["both"] == source["both_missing"] == "length"  # both factors come from it
    assert source["volume"] == "volume"


# ---- comparisons on the edge ---------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [3.1, 16_777_216.0, 1.5e9])
def test_values_next_to_a_threshold_go_the_way_they_went_in_training(begin):
    values = [np.float32(begin)]
    for _ in range(60):
        values.append(np.nextafter(values[-1], np.float32(np.inf)))
    column = np.array(values)
    frame = pd.DataFrame({"id": column.astype(float), "y": np.arange(61) * 1.0})
    case = load_case("iris").model_copy(
        update={"target": "y", "columns": {}, "classes": None, "task": "regression"}
    )
    prepare = Prepare(learn_schema(frame, case)).fit(frame)
    model = DecisionTreeRegressor().fit(column[:, None], frame["y"])
    pipeline = Pipeline([("prepare", prepare), ("model", model)])
    base, found = Explainer(take_apart(pipeline), prepare.document_).explain(column[:, None])
    np.testing.assert_allclose(base + found.sum((1, 2)), np.arange(61), atol=1e-9)


# ---- one answer, whatever the batch --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["random_forest", "logistic"])
def test_a_lone_row_and_a_batch_give_the_same_bits(kind, monkeypatch):
    made = fitted("three", kind, SMALL if kind == "random_forest" else {})
    explainer, matrix = taken(made.pipeline, made.frame)
    _, found = explainer.explain(matrix)
    base, _ = explainer.explain(matrix)
    base[:] = 7  # whoever asks may do as they like with the answer
    assert not (explainer.explain(matrix)[0] == 7).any()
    alone = np.concatenate([explainer.explain(matrix[[i]])[1] for i in range(len(matrix))])
    assert alone.tobytes() == found.tobytes()
    monkeypatch.setattr(explain, "MATRIX", 100)  # a few rows at a time
    assert explainer.explain(matrix)[1].tobytes() == found.tobytes()
    assert explainer.explain(matrix[:0])[1].shape == (0, 6, 3)
    assert residual(explainer, explainer.explain(matrix[:0])[0], found[:0], np.zeros((0, 3))) == 0


def test_leaves_in_blocks_add_up_to_the_same(monkeypatch):
    made = fitted("three", "random_forest", SMALL)
    _, matrix = taken(made.pipeline, made.frame)
    _, whole = taken(made.pipeline, made.frame)[0].explain(matrix)
    monkeypatch.setattr(explain, "BLOCK", 50)
    _, parts = taken(made.pipeline, made.frame)[0].explain(matrix)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-13)


def test_many_rows_need_little_memory():
    made = fitted("minutes", "random_forest", {"n_estimators": 30})
    explainer, matrix = taken(made.pipeline, made.frame)
    many = np.resize(matrix, (3000, matrix.shape[1]))
    explainer.explain(many[:1])
    tracemalloc.start()
    try:
        _, found = explainer.explain(many)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    cells = sum(paths.column.size for paths in explainer._paths) * len(many)
    assert cells * 8 > 100e6  # it would have been a lot
    assert peak - found.nbytes < 32e6


# ---- a file ----------------------------------------------------------------------------------------------


def test_equal_models_are_equal_bytes_and_come_back_as_they_were():
    made, again = (fitted("three", "random_forest", SMALL) for _ in range(2))
    arrays = take_apart(made.pipeline)
    content = pack(arrays)
    assert pack(take_apart(again.pipeline)) == content
    assert pack(dict(reversed(arrays.items()))) == content
    parallel = fitted("three", "random_forest", {**SMALL, "n_jobs": 2})
    assert pack(take_apart(parallel.pipeline)) == content
    other = fitted("three", "random_forest", {**SMALL, "min_samples_leaf": 2})
    assert pack(take_apart(other.pipeline)) != content
    back = unpack(content)
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype and back[name].shape == array.shape
        assert back[name].tobytes() == array.tobytes() and array.dtype.kind in "biufU"


def test_a_damaged_file_is_an_error_for_the_reader_or_does_no_harm():
    made = fitted("minutes", "dummy")
    arrays = take_apart(made.pipeline)
    content = pack(arrays)
    for cut in (0, 1, 100, len(content) // 2, len(content) - 1):
        with pytest.raises(UserError, match="explain.npz"):
            unpack(content[:cut])
    refused = 0
    for place in range(0, len(content), 5):
        bent = content[:place] + bytes([content[place] ^ 0x21]) + content[place + 1 :]
        try:
            back = unpack(bent)
        except UserError as error:
            refused += 1
            assert "explain.npz" in str(error)
        else:
            assert {k: v.tobytes() for k, v in back.items()} == {
                k: v.tobytes() for k, v in arrays.items()
            }
    assert refused > 100


def test_a_file_that_is_not_whole_or_not_ours_is_refused():
    arrays = take_apart(fitted("minutes", "random_forest", SMALL).pipeline)
    for name in arrays:
        lost = {k: v for k, v in arrays.items() if k != name}
        with pytest.raises(UserError, match=f"not whole(?s:.*)no .*{name}"):
            unpack(pack(lost))
    with pytest.raises(UserError, match="from another release"):
        unpack(pack({**arrays, "format": np.array(2)}))
    with pytest.raises(UserError, match="not whole(?s:.*)arrays of a kind 'magic'"):
        unpack(pack({**arrays, "kind": np.array("magic")}))
    from io import BytesIO

    for save in (lambda f: np.save(f, np.arange(3)), lambda f: np.savez(f, a=np.array([{}]))):
        out = BytesIO()
        save(out)
        with pytest.raises(UserError, match="explain.npz"):
            unpack(out.getvalue())


def test_an_explanation_of_another_model_is_refused():
    one = fitted("minutes", "random_forest", SMALL)
    other = fitted("minutes", "random_forest", SMALL, [])
    with pytest.raises(UserError, match="parts of another model"):
        Explainer(take_apart(one.pipeline), other.pipeline["prepare"].document_)


# ---- what is refused ---------------------------------------------------------------------------------------


def refusals() -> dict:
    y = three_classes()
    minutes = orders(120)["minutes"].to_numpy()
    from sklearn.dummy import DummyClassifier

    started = GradientBoostingRegressor(n_estimators=2, init=DecisionTreeRegressor(max_depth=1))
    return {
        "parts": (make_pipeline(MinMaxScaler(), GaussianNB()), y, "no exact parts"),
        "curved": (PoissonRegressor(), np.abs(minutes), "no exact parts"),
        "another model": (started, minutes, "starts from the answers of another"),
        "by lot": (DummyClassifier(strategy="stratified"), y, "drawn by lot"),
        "no rows": (LinearRegression(), minutes, "training rows"),
    }


@pytest.mark.parametrize("name", ["parts", "curved", "another model", "by lot", "no rows"])
def test_what_cannot_be_taken_apart_says_why(name):
    model, y, reason = refusals()[name]
    pipeline, matrix = narrow(RandomForestRegressor(1), orders(120)["minutes"].to_numpy())
    fitted_model = model.fit(np.nan_to_num(matrix), y)
    arrays = take_apart(Pipeline([("prepare", pipeline["prepare"]), ("model", fitted_model)]))
    assert list(arrays) == ["reason"]
    explainer = Explainer(unpack(pack(arrays)), pipeline["prepare"].document_)
    assert reason in explainer.reason and type(model).__name__ in explainer.reason
    assert (explainer.names, explainer.unit, explainer.outputs) == ([], "", [])
    with pytest.raises(UserError, match=reason):
        explainer.explain(matrix)


def test_encoders_that_cannot_be_followed_are_refused():
    pipeline, matrix = narrow(RandomForestRegressor(1), orders(120)["minutes"].to_numpy())
    from sklearn.compose import ColumnTransformer

    encode = ColumnTransformer([("numbers", MinMaxScaler(), [0, 1, 2, 3])]).fit(matrix)
    steps = [("prepare", pipeline["prepare"]), ("encode", encode), ("model", pipeline[-1])]
    reason = str(take_apart(Pipeline(steps))["reason"])
    assert "what a MinMaxScaler makes of columns" in reason


def test_too_many_leaves_are_refused(monkeypatch):
    made = fitted("minutes", "random_forest", SMALL)
    leaves = sum(tree.get_n_leaves() for tree in made.pipeline[-1].estimators_)
    monkeypatch.setattr(explain, "LEAVES", leaves)
    assert "reason" not in take_apart(made.pipeline)
    monkeypatch.setattr(explain, "LEAVES", leaves - 1)
    assert f"{leaves:,} leaves" in str(take_apart(made.pipeline)["reason"])


# ---- the serving process -------------------------------------------------------------------------------------

SERVE = """
import json, sys
from pathlib import Path
import numpy as np
from rf_mlops.explain import Explainer, pack, unpack

content = Path("explain.npz").read_bytes()
explainer = Explainer(unpack(content), json.loads(Path("prepare.json").read_text()))
base, found = explainer.explain(np.load("matrix.npy"))
print(json.dumps({
    "base": base.tobytes().hex(),
    "found": found.tobytes().hex(),
    "same": pack(unpack(content)) == content,
    "loaded": sorted({m.split(".")[0] for m in sys.modules}),
}))
"""


def test_a_process_without_scikit_learn_gives_the_same_bits(tmp_path):
    made = fitted("three", "gradient_boosting", {"n_estimators": 10})
    matrix = made.pipeline["prepare"].transform(made.frame)
    arrays, document = take_apart(made.pipeline), made.pipeline["prepare"].document_
    (tmp_path / "explain.npz").write_bytes(pack(arrays))
    (tmp_path / "prepare.json").write_text(json.dumps(document))
    np.save(tmp_path / "matrix.npy", matrix)
    done = subprocess.run(
        [sys.executable, "-c", SERVE], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    base, found = Explainer(arrays, document).explain(matrix)
    assert told["base"] == base.tobytes().hex()
    assert told["found"] == found.tobytes().hex()
    assert told["same"]
    assert set(told["loaded"]) & HEAVY == set()
