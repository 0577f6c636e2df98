from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Lasso, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from xgboost import XGBRegressor

from enformer_features.estimators import persistence
from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.estimators.heads import (
    expecto_head,
    fit_head,
    lasso_head,
    ridge_head,
)
from enformer_features.estimators.metrics import median_scorer
from enformer_features.estimators.persistence import load_model, save_model
from enformer_features.exceptions import (
    EnformerFeaturesWarning,
    GenomeError,
    InputError,
    InputTypeError,
    PlanMismatchError,
    StoreError,
    WeightsError,
)
from enformer_features.inference.pooling import Pool
from enformer_features.inference.tracks import TrackSelection

X = np.random.default_rng(0).normal(size=(23, 5)).astype(np.float32)
Y = np.random.default_rng(1).uniform(size=(23, 3))


class Embedder(TransformerMixin, BaseEstimator):
    """What persistence knows of an EnformerEmbedder."""

    digest: str | Exception = "sha256:aa"
    contigs = "sha256:c1"

    def __init__(
        self, genome: Any = None, pooling: Any = "tss", tracks: Any = None
    ) -> None:
        self.genome = genome
        self.pooling = pooling
        self.tracks = tracks

    def fit(self, X: Any, y: Any = None) -> Embedder:
        return self

    def transform(self, X: Any) -> Any:
        return np.asarray(X) * 2

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def provenance(self) -> dict[str, Any]:
        if isinstance(self.digest, Exception):
            raise self.digest
        if self.genome is not None and not Path(self.genome).exists():
            msg = f"{self.genome} is missing"
            raise GenomeError(msg)
        return {
            "enformer_features_version": "0.1.0",
            "weights_digest": self.digest,
            "sequence_length": 2_048,
            "pooling": repr(self.pooling),
            "genome": str(self.genome),
            "genome_digest": self.contigs if self.genome else None,
            "shifts": [0, 1],
        }


class Foreign(TransformerMixin, BaseEstimator):
    def fit(self, X: Any, y: Any = None) -> Foreign:
        return self

    def transform(self, X: Any) -> Any:
        return X

    def __sklearn_is_fitted__(self) -> bool:
        return True


@pytest.fixture
def trusted_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the stand-in as if it were a class of ours."""
    module = f"{Embedder.__module__}.Embedder"
    names = persistence._TRUSTED_NAMES | {module}
    monkeypatch.setattr(persistence, "_TRUSTED_NAMES", names)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.zip"


def rewrite(
    path: Path,
    manifest: Callable[[dict[str, Any]], Any] = lambda manifest: manifest,
    member: str | None = None,
    data: bytes | None = None,
    **options: Any,
) -> None:
    """Write the archive anew with some of its parts replaced."""
    with zipfile.ZipFile(path) as archive:
        old = json.loads(archive.read("manifest.json"))
        name = next(iter(old["members"]))
        content = archive.read(name) if data is None else data
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("manifest.json", json.dumps(manifest(old) or old))
        archive.writestr(member or name, content)


def members(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


@pytest.mark.parametrize(
    "model",
    [
        Ridge(),
        Lasso(alpha=0.01),
        make_pipeline(StandardScaler(), Ridge(alpha=[1.0, 2.0, 3.0])),
        TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
        XGBRegressor(n_estimators=7, max_depth=3),
        TransformedTargetRegressor(
            make_pipeline(StandardScaler(), XGBRegressor(n_estimators=3)),
            func=np.log1p,
            inverse_func=np.expm1,
        ),
    ],
    ids=lambda model: type(model).__name__,
)
def test_predictions_are_the_same_bits_after_loading_without_any_pickle(
    path: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(model.fit(X, Y), path)
    assert members(path) == ["manifest.json", "model.skops"]

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("unpickled")

    monkeypatch.setattr(joblib, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    predicted = load_model(path).predict(X)
    expected = model.predict(X)
    assert predicted.dtype == expected.dtype
    np.testing.assert_array_equal(predicted, expected)


@pytest.mark.usefixtures("trusted_embedder")
def test_parameters_that_are_values_survive_in_a_pipeline(path: Path) -> None:
    pooling = (Pool("promoter", bins=(-3, 2)), Pool("all", bins="all", reduction="max"))
    tracks = TrackSelection((5, 2), ("b", "a"))
    model = make_pipeline(Embedder(path.parent, pooling, tracks), Ridge()).fit(X, Y)
    save_model(model, path)
    loaded = load_model(path)
    assert loaded[0].get_params() == model[0].get_params()
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


@pytest.mark.filterwarnings(
    "ignore::enformer_features.exceptions.UntrainedWeightsWarning"
)
def test_real_embedder_loads_in_a_new_process_and_predicts_the_same_bits(
    path: Path,
) -> None:
    rng = np.random.default_rng(3)
    windows = ["".join(rng.choice(list("ACGT"), 1_024)) for _ in range(5)]
    embedder = EnformerEmbedder(
        "untrained-tiny",
        sequence_length=1_024,
        pooling=(Pool("promoter", bins=(-1, 1)), "mean"),
        output="tracks",
        tracks=TrackSelection((5110, 4828), ("GM12878", "K562")),
        device="cpu",
    )
    model = make_pipeline(embedder, StandardScaler(), Ridge()).fit(windows, Y[:5])
    save_model(model, path)
    assert members(path) == ["manifest.json", "model.skops"]
    np.save(path.with_suffix(".npy"), model.predict(windows))
    path.with_suffix(".txt").write_text(" ".join(windows))
    subprocess.run([sys.executable, "-c", PREDICT, str(path)], check=True)


PREDICT = """
import sys, pathlib, numpy as np
from enformer_features.estimators.persistence import load_model
path = pathlib.Path(sys.argv[1])
windows = path.with_suffix(".txt").read_text().split()
predicted = load_model(path).predict(windows)
np.testing.assert_array_equal(predicted, np.load(path.with_suffix(".npy")))
"""


@pytest.mark.usefixtures("trusted_embedder")
def test_manifest_says_what_the_model_is_made_of(path: Path) -> None:
    save_model(make_pipeline(Embedder(), Ridge()).fit(X, Y), path)
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest["format"] == "enformer_features.model"
    assert {"scikit-learn", "numpy", "xgboost"} <= manifest["versions"].keys()
    (origin,) = manifest["provenance"].values()
    assert origin == Embedder().provenance()


@pytest.mark.usefixtures("trusted_embedder")
def test_other_weights_or_geometry_are_refused_field_by_field(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def older(manifest: dict[str, Any]) -> None:
        for origin in manifest["provenance"].values():
            origin["sequence_length"] = 4_096
            origin["enformer_features_version"] = "0.0.1"

    save_model(
        TransformedTargetRegressor(make_pipeline(Embedder(), Ridge())).fit(X, Y), path
    )
    rewrite(path, older)
    monkeypatch.setattr(Embedder, "digest", "sha256:bb")
    with pytest.raises(PlanMismatchError) as raised:
        load_model(path)
    text = str(raised.value)
    assert "weights_digest: saved 'sha256:aa', now 'sha256:bb'" in text
    assert "sequence_length: saved 4096, now 2048" in text
    assert "model.regressor_.steps.0.1" in text
    assert "version:" not in text


@pytest.mark.usefixtures("trusted_embedder")
def test_absent_weights_are_told_as_the_embedder_tells_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(make_pipeline(Embedder(), Ridge()).fit(X, Y), path)
    monkeypatch.setattr(Embedder, "digest", WeightsError("download them with ..."))
    with pytest.raises(WeightsError, match="download them with"):
        load_model(path)


@pytest.mark.usefixtures("trusted_embedder")
def test_model_moves_to_a_machine_without_its_genome(path: Path) -> None:
    genome = path.with_name("toy.fa")
    genome.touch()
    save_model(make_pipeline(Embedder(str(genome)), Ridge()).fit(X, Y), path)
    genome.unlink()
    assert load_model(path)[0].genome == str(genome)


@pytest.mark.filterwarnings("ignore::enformer_features.UntrainedWeightsWarning")
def test_what_lies_elsewhere_is_set_before_it_is_checked(
    path: Path, tmp_path: Path
) -> None:
    genome = tmp_path / "here.fa"
    genome.write_text(">chr1\n" + "ACGT" * 100 + "\n")
    embedder = EnformerEmbedder("untrained-tiny", genome=genome, sequence_length=1024)
    model = make_pipeline(embedder, Ridge()).fit(["A" * 1024, "C" * 1024], [0, 1])
    save_model(model, path)
    elsewhere = genome.rename(tmp_path / "elsewhere.fa")
    loaded = load_model(path, embedder={"genome": elsewhere, "batch_size": 3})
    assert loaded[0].genome == elsewhere
    assert loaded[0].batch_size == 3
    with pytest.raises(PlanMismatchError, match="sequence_length"):
        load_model(path, embedder={"sequence_length": 2048})
    with pytest.raises(
        InputError, match=r"='genme' is not one .* did you mean 'genome'"
    ):
        load_model(path, embedder={"genme": elsewhere})
    with pytest.raises(
        InputTypeError, match=r"embedder=\['genome'\] must be a mapping"
    ):
        load_model(path, embedder=["genome"])  # type: ignore[arg-type]


@pytest.mark.usefixtures("trusted_embedder")
def test_genome_with_other_contigs_warns(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genome = path.with_name("toy.fa")
    genome.touch()
    save_model(make_pipeline(Embedder(str(genome)), Ridge()).fit(X, Y), path)
    monkeypatch.setattr(Embedder, "contigs", "sha256:c2")
    with pytest.warns(EnformerFeaturesWarning, match=r"other contigs .*assembly\?"):
        load_model(path)


def test_what_is_no_fitted_estimator_is_refused(path: Path) -> None:
    with pytest.raises(
        InputTypeError, match="must be a scikit-learn estimator, not di"
    ):
        save_model({}, path)  # type: ignore[arg-type]
    with pytest.raises(NotFittedError, match="not fitted"):
        save_model(Ridge(), path)
    assert not path.exists()


def test_existing_file_is_kept_unless_it_shall_be_replaced(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(InputError, match="exists; "):
        save_model(Ridge().fit(X, Y), path)
    assert path.read_text() == "mine"
    save_model(Ridge().fit(X, Y), path, overwrite=True)
    assert load_model(path).coef_.shape == (3, 5)


def test_full_disk_leaves_the_older_model(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(Ridge().fit(X, Y), path)
    old = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"model\.zip .*No space left.* bytes"):
        save_model(Lasso().fit(X, Y), path, overwrite=True)
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == ["model.zip"]


def test_foreign_class_is_pickled_with_a_warning_and_read_only_when_allowed(
    path: Path,
) -> None:
    model = make_pipeline(Foreign(), Ridge()).fit(X, Y)
    with pytest.warns(EnformerFeaturesWarning, match=r"pickled because .*\.Foreign"):
        save_model(model, path)
    assert members(path) == ["manifest.json", "model.pkl"]
    with pytest.raises(InputError, match=r"Foreign.*can run any code.*allow_pickle=T"):
        load_model(path)
    loaded = load_model(path, allow_pickle=True)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_what_cannot_even_be_pickled_says_so(path: Path) -> None:
    model = make_pipeline(FunctionTransformer(lambda x: x), Ridge()).fit(X, Y)
    with pytest.raises(InputError, match="replace lambdas by functions"):
        save_model(model, path)


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("member", ["model.pkl", "model.skops"])
def test_crafted_pickle_never_runs(path: Path, member: str) -> None:
    canary = path.with_name("canary")
    buffer = io.BytesIO()
    joblib.dump(Canary(canary), buffer)
    save_model(Ridge().fit(X, Y), path)
    craft(path, member, buffer.getvalue())
    with pytest.raises((InputError, StoreError), match=r"any code|is not read"):
        load_model(path)
    assert not canary.exists()
    joblib.load(io.BytesIO(buffer.getvalue()))
    assert canary.exists()  # so the canary does sing


def craft(path: Path, member: str, data: bytes) -> None:
    """Give the archive another member, with a manifest that agrees with it."""
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    rewrite(path, lambda old: old | {"members": {member: entry}}, member, data)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("subprocess", "Popen"),
        ("xgboost.core", "DMatrix"),  # opens files
        ("xgboost.core", "build_info"),  # a function
        ("enformer_features.storage.files", "Path"),  # not defined there
        ("enformer_features.cli.__main__", "X"),  # importing it would run it
        ("enformer_features.absent", "X"),
    ],
)
def test_types_that_are_not_trusted_are_named_and_never_made(
    path: Path, module: str, name: str
) -> None:
    from skops import io as skops

    save_model(Ridge().fit(X, Y), path)
    buffer = io.BytesIO(skops.dumps(Ridge().fit(X, Y)))
    with zipfile.ZipFile(buffer) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    schema = json.loads(files["schema.json"])
    schema |= {"__module__": module, "__class__": name}
    files["schema.json"] = json.dumps(schema).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for entry, content in files.items():
            archive.writestr(entry, content)
    craft(path, "model.skops", buffer.getvalue())
    with pytest.raises(InputError, match=rf"not trusted: {module}\.{name}\. If you"):
        load_model(path)


def test_flipped_bytes_give_an_error_or_the_same_model(path: Path) -> None:
    model = Ridge().fit(X, Y)
    save_model(model, path)
    good = path.read_bytes()
    rng = np.random.default_rng(2)
    n_refused = 0
    for position in rng.choice(len(good), 60, replace=False):
        bad = bytearray(good)
        bad[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(bad))
        try:
            loaded = load_model(path)
        except StoreError:
            n_refused += 1
        else:  # a byte of the zip format that says nothing about the content
            np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert n_refused > 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m | {"format": "other"}, "its format is 'other'"),
        (
            lambda m: m | {"format_version": 2},
            "format version is 2, .* up to 1; upgrade",
        ),
        (lambda m: m | {"provenance": 1}, r"manifest\.json has no 'provenance'"),
        (lambda m: m | {"members": {}}, r"does not know model\.skops"),
        (
            lambda m: m["members"]["model.skops"].update(sha256="00"),
            r"model\.skops is damaged: its sha256",
        ),
        (
            lambda m: m["members"]["model.skops"].update(bytes=7),
            r"model\.skops is damaged: 7 bytes",
        ),
        (lambda _: [1], "absent, damaged or no model file"),
    ],
)
def test_manifest_that_does_not_fit_is_refused(
    path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    save_model(Ridge().fit(X, Y), path)
    rewrite(path, change)
    with pytest.raises(StoreError, match=message):
        load_model(path)


def test_files_of_other_kinds_are_refused(path: Path) -> None:
    with pytest.raises(InputTypeError, match="path is NoneType, expected a str or a"):
        load_model(None)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=r"no model file .*Is a directory"):
        load_model(path.parent)
    with pytest.raises(StoreError, match=r"absent, damaged .*No such file"):
        load_model(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(StoreError, match=r"no model file .*not a zip"):
        load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(StoreError, match=r"it has no manifest\.json"):
        load_model(path)
    save_model(Ridge().fit(X, Y), path, overwrite=True)
    rewrite(path, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(StoreError, match="members are compressed"):
        load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", "{}")
    with pytest.raises(StoreError, match="its format is None"):
        load_model(path)


def test_another_version_of_scikit_learn_warns(path: Path) -> None:
    save_model(Ridge().fit(X, Y), path)
    rewrite(path, lambda m: m | {"versions": m["versions"] | {"scikit-learn": "1.0"}})
    with pytest.warns(EnformerFeaturesWarning, match=r"with scikit-learn 1\.0 and is"):
        load_model(path)


def test_import_loads_no_heavy_package() -> None:
    code = (
        "import enformer_features.estimators.persistence, sys;"
        "heavy = {'torch', 'xgboost', 'skops', 'anndata'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fitted_pipeline_type_is_kept(path: Path) -> None:
    save_model(make_pipeline(StandardScaler(), Ridge()).fit(X, Y), path)
    assert isinstance(load_model(path), Pipeline)


@pytest.mark.parametrize(
    "head",
    [
        lasso_head(cv=GroupKFold(2)),
        expecto_head("tuned", cv=2, n_jobs=1),
        GridSearchCV(
            ridge_head(1.0),
            {"groupedridgecv__alphas": [1.0, 9.0]},
            cv=GroupKFold(2),
            scoring=median_scorer(),
        ),
    ],
    ids=["lasso", "expecto", "grid"],
)
def test_heads_that_search_on_held_out_groups_need_no_pickle(
    path: Path, head: Any
) -> None:
    y = np.column_stack([np.square(Y), np.square(Y) + 1])
    model = fit_head(head, X, y, np.arange(len(X)) % 3)
    save_model(model, path)
    assert members(path) == ["manifest.json", "model.skops"]
    np.testing.assert_array_equal(load_model(path).predict(X), model.predict(X))
