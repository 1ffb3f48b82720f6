"""Three small cases in one project: iris, visits (two classes, all kinds of columns, an id), houses (a regression)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import make_project
from ruamel.yaml import YAML

VISIT = {"town": "New York", "member": True, "at": "2024-05-06T07:30:00+02:00", "amount": 61.5}
TOWNS = ["New York", "Saint-Étienne", 'Ober "Dorf", B', "A & B's", None]


def write_visits(path: Path) -> None:
    "A category with gaps, a truth value, a moment and a number: do they come?"
    draw = np.random.default_rng(1)
    member, amount = draw.random(200) < 0.5, draw.uniform(0, 100, 200).round(2)
    at = pd.Timestamp("2024-01-01 06:30") + pd.to_timedelta(np.arange(200) * 31, unit="h")
    come = np.where(amount + 30 * member > 60, "yes", "no")
    columns = {"ticket": np.arange(1000, 1200), "town": TOWNS * 40, "member": member, "at": at}
    columns |= {"amount": amount, "come": come}
    pd.DataFrame(columns).to_csv(path, index=False)


def write_houses(path: Path) -> None:
    "What a house costs: a regression."
    draw = np.random.default_rng(2)
    size, rooms = draw.uniform(20, 200, 200).round(1), draw.integers(1, 8, 200)
    price = (3 * size + 10 * rooms + draw.normal(0, 5, 200)).round(1)
    pd.DataFrame({"size": size, "rooms": rooms, "price": price}).to_csv(path, index=False)


def add_cases(project: Path) -> None:
    "Two small cases beside iris."
    yaml = YAML()
    tree = yaml.load(project / "params.yaml")
    quick = {"evaluate": {"resamples": 100}, "split": {"folds": 2}}
    tree["cases"]["visits"] = {
        "data": {"type": "csv", "params": {"path": "visits.csv"}},
        "question": "Does somebody come?",
        "target": "come",
        "ids": ["ticket"],
        "task": "classification",
        "columns": {"at": {"kind": "datetime"}},
        "prepare": [{"op": "date_parts@1", "params": {"source": "at"}}],
        "model": {"type": "random_forest", "params": {"n_estimators": 10}},
        "metric": "accuracy",
        **quick,
    }
    tree["cases"]["houses"] = {
        "data": {"type": "csv", "params": {"path": "houses.csv"}},
        "target": "price",
        "task": "regression",
        "model": {"type": "linear"},
        "metric": "mae",
        **quick,
    }
    with (project / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(tree, file)


def make_town(folder: Path) -> Path:
    "The project, each of its cases trained once."
    from rf_mlops import runs
    from rf_mlops.data import ingest
    from rf_mlops.train import train

    project = make_project(folder)
    write_visits(project / "visits.csv")
    write_houses(project / "houses.csv")
    add_cases(project)
    quick = "iris.evaluate.resamples=100 iris.model.params.n_estimators=10 iris.split.folds=2"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RF_MLOPS_PROJECT", str(project))
        for case, sets in (("iris", quick), ("visits", ""), ("houses", "")):
            session = runs.begin(case, "small", -1, sets)
            taken = ingest(session.case, session.settings)
            training = train(session.case, taken.schema, taken.frame)
            decision = runs.conclude(session, runs.keep(session, training, taken), True)
            assert decision.verdict == "promoted"
    return project
