from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

from enformer_features.exceptions import InputError, InputTypeError, StoreError
from enformer_features.storage.export import check_obs, to_anndata, write_h5ad

PROVENANCE = {
    "weights": "untrained-tiny",
    "weights_digest": "sha256:00ff",
    "sequence_length": 2_048,
    "reverse_complement": False,
    "shifts": [0, 1],
    "genome_digest": None,
}


def regions(n: int = 3, **columns: Any) -> pd.DataFrame:
    table = {
        "chrom": ["chr1", "chr10", "chr2"][:n],
        "start": np.arange(n) * 7,
        "end": np.arange(n) * 7 + 5,
        "strand": ["+", "-", "+"][:n],
    }
    return pd.DataFrame(table | columns)


def export(obs: pd.DataFrame, **options: Any) -> anndata.AnnData:
    values = np.arange(len(obs) * 2.0).reshape(-1, 2)
    return to_anndata(values, obs, ["a", "b"], **options)


def test_values_become_contiguous_float32_in_the_order_of_the_regions() -> None:
    values = np.asfortranarray(np.random.default_rng(0).normal(size=(3, 2)))
    values[1] = np.nan
    adata = to_anndata(values, regions(), ["a", "b"])
    assert adata.X.dtype == np.float32
    assert adata.X.flags.c_contiguous
    np.testing.assert_array_equal(adata.X, values.astype(np.float32))
    assert list(adata.obs_names) == ["chr1:0-5(+)", "chr10:7-12(-)", "chr2:14-19(+)"]
    assert list(adata.var_names) == ["a", "b"]


def test_float32_values_are_not_copied() -> None:
    values = np.zeros((3, 2), dtype=np.float32)
    assert np.shares_memory(to_anndata(values, regions(), ["a", "b"]).X, values)


def test_write_read_write_is_stable_and_leaves_the_input_alone(tmp_path: Path) -> None:
    obs = regions(
        name=["g1", "g1", None],
        score=pd.array([1, None, 3], dtype="Int64"),
        depth=pd.array([1.5, None, 2.0], dtype="Float64"),
        kept=pd.array([True, False, True], dtype="boolean"),
        note=pd.array(["x", None, "y"], dtype="string"),
        barcode=pd.array([2**63, 1, 2], dtype="UInt64"),
        full=pd.array(["x", "z", "y"], dtype="string"),
        nothing=[None] * 3,
        counts=pd.Series([1, 2, 3], dtype=object),
    ).set_axis(["r1", "r2", "r3"])
    before = obs.copy(deep=True)
    bins = np.random.default_rng(1).normal(size=(3, 5, 2)).astype(np.float32)
    adata = export(
        obs,
        provenance=PROVENANCE,
        obsm={"X_enformer_bins": bins},
        var=pd.DataFrame({"assay": ["CAGE", "DNASE"], "index": [4, 2]}),
    )
    written = adata.obs.copy()
    write_h5ad(adata, tmp_path / "one.h5ad")
    one = anndata.read_h5ad(tmp_path / "one.h5ad")
    write_h5ad(one, tmp_path / "two.h5ad")
    two = anndata.read_h5ad(tmp_path / "two.h5ad")

    pd.testing.assert_frame_equal(obs, before)
    pd.testing.assert_frame_equal(adata.obs, written)
    assert one.obs["chrom"].tolist() == ["chr1", "chr10", "chr2"]
    assert (one.obs[["chrom", "strand"]].dtypes == "category").all()
    assert one.obs["barcode"].tolist() == [2**63, 1, 2]
    assert one.obs["counts"].dtype == np.int64
    assert one.obs["score"].tolist() == [1, pd.NA, 3]
    assert one.obs["note"].isna().tolist() == [False, True, False]
    assert one.var["assay"].tolist() == ["CAGE", "DNASE"]
    pd.testing.assert_frame_equal(one.obs, two.obs)
    pd.testing.assert_frame_equal(one.var, two.var)
    np.testing.assert_array_equal(one.X, adata.X)
    np.testing.assert_array_equal(two.X, adata.X)
    np.testing.assert_array_equal(two.obsm["X_enformer_bins"], bins)
    assert one.uns == two.uns == adata.uns


def test_provenance_travels_as_plain_values_and_as_json() -> None:
    entry = export(regions(), provenance=PROVENANCE).uns["enformer_features"]
    record = json.loads(entry.pop("provenance_json"))
    assert {key: record[key] for key in PROVENANCE} == PROVENANCE
    assert set(entry) == {
        "enformer_features_version",
        "weights",
        "weights_digest",
        "sequence_length",
        "reverse_complement",
    }


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.to_datetime(["2020-01-01"] * 3), r"'bad' .* holds datetime64 values"),
        (pd.to_timedelta([1, 2, 3]), r"'bad' .* holds timedelta64 values"),
        ([[1], [2], [3]], r"'bad' .* holds mixed values \(\{0: \[1\]\}\)"),
        ([1, "a", 2], r"'bad' .* holds mixed-integer values"),
        ([b"a", b"b", b"c"], r"'bad' .* holds bytes values"),
        ([1j, 2j, 3j], r"'bad' .* holds complex values"),
        (pd.Categorical(pd.to_datetime(["2020-01-01"] * 3)), r"'bad' .*datetime64"),
        (pd.Categorical([1, "a", 1]), r"'bad' .* holds mixed-integer"),
        (pd.Series([2**70, 1, 2], dtype=object), r"'bad' cannot be kept as int64"),
    ],
)
def test_columns_that_no_file_keeps_are_refused_by_name(
    column: Any, message: str
) -> None:
    with pytest.raises(InputError, match=f"obs column {message}"):
        export(regions(bad=column))


@pytest.mark.parametrize("name", ["a/b", "_index", "", 7])
def test_names_that_files_lose_or_reserve_are_refused(name: Any) -> None:
    with pytest.raises(InputError, match=r"obs: .*name"):
        export(regions(**{"x": 1}).rename(columns={"x": name}))
    with pytest.raises(InputError, match=r"obsm: .*name"):
        export(regions(), obsm={name: np.zeros((3, 1))})
    with pytest.raises(InputError, match=r"provenance: .*name"):
        export(regions(), provenance={name: 1})
    with pytest.raises(InputError, match=r"index name of obs: .*name"):
        export(regions().rename_axis(name))


def test_index_named_as_a_column_and_repeated_columns_are_refused() -> None:
    with pytest.raises(InputError, match="an index and a column 'chrom'"):
        export(regions().set_index("chrom", drop=False))
    twice = pd.concat([regions(), regions()], axis=1)
    with pytest.raises(InputError, match="columns of the same name: chrom, start"):
        export(twice)


def test_repeated_observation_names_are_refused_or_made_unique() -> None:
    obs = regions().set_axis(["a", "b", "a"])
    with pytest.raises(InputError, match=r"obs: names that repeat: a; .*make_unique"):
        export(obs)
    with pytest.raises(InputError, match=r"obs: names that repeat: a"):
        check_obs(obs)
    check_obs(obs, make_unique=True)
    assert list(export(obs, make_unique=True).obs_names) == ["a", "b", "a-1"]


def test_repeated_regions_without_names_are_told_by_their_coordinates() -> None:
    obs = regions().iloc[[0, 0, 1]].reset_index(drop=True)
    with pytest.raises(InputError, match=r"names that repeat: chr1:0-5\(\+\)"):
        export(obs)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (["a", None, "c"], r"without a name .*: 1"),
        (["a", "", "c"], r"names must be text, not ''"),
        (pd.MultiIndex.from_product([["a"], [1, 2, 3]]), "index of several levels"),
    ],
)
def test_observations_need_plain_names(index: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        export(regions().set_axis(index))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0], regions(1), ["a"]), InputError, r"shape \(1,\), expected \(n_reg"),
        (([["x"]], regions(1), ["a"]), InputTypeError, "must be real numbers"),
        (([[1.0]], regions(2), ["a"]), InputError, "obs has 2 rows, the values have 1"),
        (([[1.0]], ["chr1"], ["a"]), InputTypeError, "obs must be a DataFrame, not li"),
        (([[1.0]], regions(1), ["a", "b"]), InputError, "2 feature names for 1 feat"),
        (([[1, 2]], regions(1), ["a", "a"]), InputError, "feature_names: names that r"),
        (([[1]], regions(1), [0]), InputError, "feature_names: names must be text"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        to_anndata(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"var": pd.DataFrame({"x": [1]})}, "var has 1 rows for 2 features"),
        ({"obsm": {"k": np.zeros((2, 4))}}, r"obsm\['k'\] has shape \(2, 4\), expec"),
        ({"obsm": {"k": np.zeros(3)}}, r"obsm\['k'\] has shape \(3,\)"),
        ({"provenance": {"k": {1, 2}}}, r"provenance\['k'\] = \{1, 2\} is no JSON"),
        ({"provenance": {"k": float("nan")}}, r"provenance\['k'\] = nan is no JSON"),
        ({"provenance": {"provenance_json": 1}}, "'provenance_json' is reserved"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        export(regions(), **options)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a/b": 1}, r"uns\['k'\]: 'a/b' cannot be a name"),
        ({3: 1}, r"uns\['k'\]: names must be text, not 3"),
        ((1, 2), r"uns\['k'\] is a tuple"),
        (Path("a"), r"uns\['k'\] is a PosixPath"),
        ([{"a": 1}], r"uns\['k'\] is a list of dict"),
        ([1, "a"], r"uns\['k'\] is a list of int and str"),
    ],
)
def test_uns_that_a_file_would_change_is_refused_before_writing(
    tmp_path: Path, value: Any, message: str
) -> None:
    adata = export(regions())
    adata.uns["k"] = value
    with pytest.raises(InputError, match=message):
        write_h5ad(adata, tmp_path / "out.h5ad")
    assert os.listdir(tmp_path) == []


def test_foreign_anndata_is_checked_as_well(tmp_path: Path) -> None:
    path = tmp_path / "out.h5ad"
    adata = export(regions())
    adata.layers["a/b"] = adata.X
    with pytest.raises(InputError, match="layers: 'a/b'"):
        write_h5ad(adata, path)
    del adata.layers["a/b"]
    adata.obs["when"] = pd.to_datetime(["2020-01-01"] * 3)
    with pytest.raises(InputError, match="obs column 'when'"):
        write_h5ad(adata, path)
    del adata.obs["when"]
    adata.raw = adata.copy()
    adata.layers["double"] = adata.X * 2
    write_h5ad(adata[[2, 0]], path)
    again = anndata.read_h5ad(path)
    np.testing.assert_array_equal(again.layers["double"], again.X * 2)
    np.testing.assert_array_equal(again.raw.X, adata.X[[2, 0]])


def test_backed_anndata_and_existing_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.h5ad"
    write_h5ad(export(regions()), path)
    with pytest.raises(InputError, match="exists; "):
        write_h5ad(export(regions()), path)
    backed = anndata.read_h5ad(path, backed="r")
    with pytest.raises(InputError, match=r"backed by .*to_memory"):
        write_h5ad(backed, tmp_path / "other.h5ad")
    backed.file.close()


def test_full_disk_keeps_the_old_file_and_tells_path_and_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.h5ad"
    write_h5ad(export(regions()), path)
    old = path.read_bytes()

    def full(self: anndata.AnnData, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(anndata.AnnData, "write_h5ad", full)
    with pytest.raises(StoreError, match=r"out\.h5ad .* No space left .*\d+ bytes"):
        write_h5ad(export(regions()), path, overwrite=True)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["out.h5ad"]


FULL_DISK = """
import resource, signal, sys
import numpy as np, pandas as pd
from enformer_features.exceptions import StoreError
from enformer_features.storage.export import to_anndata, write_h5ad

obs = pd.DataFrame(index=[f"r{i}" for i in range(1000)])
adata = to_anndata(np.ones((1000, 1000)), obs, [f"f{i}" for i in range(1000)])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
try:
    write_h5ad(adata, sys.argv[1])
except StoreError as error:
    print(error)
"""


def test_real_write_failure_inside_hdf5_is_told_and_the_process_ends_well(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "out.h5ad")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "out.h5ad could not be written: File too large" in done.stdout
    assert os.listdir(tmp_path) == []


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import anndata, numpy as np, pandas as pd
from enformer_features.storage.export import to_anndata, write_h5ad

path = Path(sys.argv[1])
obs = pd.DataFrame(index=[f"r{i}" for i in range(300)])


def write(number):
    values = np.full((300, 500), number)
    names = [f"f{i}" for i in range(500)]
    write_h5ad(to_anndata(values, obs, names), path, overwrite=True)


write(0)
for attempt in range(20):
    child = os.fork()
    if child == 0:
        while True:
            write(os.getpid())
    time.sleep(random.Random(attempt).uniform(0.005, 0.15))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert np.unique(anndata.read_h5ad(path).X).size == 1, "a mixed file"
print("partial", len(list(path.parent.glob(".*.partial"))))
"""


def test_kill_during_a_write_over_an_existing_file_leaves_old_or_new(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "out.h5ad")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # some of the kills did hit a write
    assert int(done.stdout.split()[1]) > 0
