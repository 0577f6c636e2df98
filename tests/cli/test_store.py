"""enformer-features store."""

import json

import anndata
import numpy as np
import pytest

from enformer_features import EnformerEmbedder, read_genes
from enformer_features.estimators.embedding_store import EmbeddingStore

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.UntrainedWeightsWarning"
)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """No power is cut here; tests/faults kills processes."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def planned(cli, toy, tmp_path):
    path = tmp_path / "my features.zarr"
    done = cli("store", "plan", path, *toy.options, "--unit-rows", 5)
    assert done.code == 0
    assert f"0 of 3 units are done; next: enformer-features store run '{path}'" in (
        done.err
    )
    return path


def test_a_store_goes_from_plan_to_anndata(cli, toy, planned):
    assert cli("store", "status", planned).code == 3
    done = cli("store", "run", planned, "--units", "2/2", "--json")
    assert (done.code, json.loads(done.out)["units_computed"]) == (0, 1)
    assert "part 2/2: 1 of 1; the store: 1 of 3 units are done; next:" in done.err
    left = json.loads(cli("store", "run", planned, "--dry-run", "--json").out)
    assert (left["pending"], left["pending_rows"]) == (2, 7)
    assert left["output_bytes"] == 7 * 192 * 4
    assert cli("store", "finalize", planned).code == 1
    done = cli("store", "run", planned)
    assert done.code == 0
    assert "3 of 3 units are done; next: enformer-features store finalize" in done.err
    done = cli("store", "status", planned)
    assert done.code == 0
    assert "next: enformer-features store finalize" in done.err
    assert cli("store", "finalize", planned).code == 0
    expected = EnformerEmbedder(
        "untrained-tiny", genome=toy.genome, sequence_length=1024
    ).transform(read_genes(toy.genes))
    np.testing.assert_array_equal(anndata.read_zarr(planned).X, expected)
    assert "next" not in cli("store", "run", planned).err


def test_a_dry_run_tells_the_cost_and_makes_nothing(cli, toy, tmp_path, exploding):
    path = tmp_path / "f.zarr"
    options = ["--genes", toy.genes, "--genome", toy.genome, "--weights", exploding]
    done = cli(
        *("store", "plan", path, *options, "--bins", "--dtype", "float16"),
        *("--sequence-length", 1024, "--dry-run", "--json", "--strand", "average"),
    )
    cost = json.loads(done.out)
    assert cost["row_shape"] == [8, 96]
    assert (cost["n_rows"], cost["n_units"], cost["n_passes"]) == (12, 1, 24)
    assert cost["output_bytes"] == 12 * 8 * 96 * 2
    assert not path.with_suffix(".zarr.partial").exists()


def test_the_next_commands_replace_a_finished_store(cli, toy, planned):
    assert cli("store", "run", planned).code == 0
    assert cli("store", "finalize", planned).code == 0
    options = [*toy.options, "--dtype", "float16", "--overwrite"]
    assert cli("store", "plan", planned, *options).code == 0
    assert cli("store", "status", planned).code == 3
    assert cli("store", "run", planned).code == 0
    assert cli("store", "finalize", planned, "--overwrite").code == 0
    assert anndata.read_zarr(planned).X.dtype == np.float16


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_path_that_cannot_be_is_told_before_rows_are_read(cli, tmp_path, options):
    path = tmp_path / "absent" / "f.zarr"
    done = cli("store", "plan", path, "--genes", tmp_path / "absent.tsv", *options)
    assert done.code == 2
    assert f"there is no folder {path.parent}" in done.err


def test_rows_that_failed_are_told_by_name_and_exit_code(cli, toy, tmp_path):
    path = tmp_path / "f.zarr"
    regions = ["--region", "chr1:9001-9100", "--region", "chr9:9001-9100"]
    cli("store", "plan", path, *regions, *toy.network, "--on-error", "nan")
    done = cli("store", "run", path, "--json")
    assert done.code == 3
    (failed,) = json.loads(done.out)["failed"]
    assert failed["name"] == "chr9:9001-9100"
    assert "unknown contig" in failed["reason"]
    assert "rows that became NaN: chr9:9001-9100" in done.err
    assert cli("store", "finalize", path).code == 3


def test_damage_is_found_and_repaired(cli, planned):
    cli("store", "run", planned)
    assert cli("store", "verify", planned).code == 0
    values = planned.with_name(f"{planned.name}.partial") / "X" / "c.1.0"
    values.write_bytes(values.read_bytes()[:-1] + b"?")
    done = cli("store", "verify", planned, "--json")
    assert (done.code, json.loads(done.out)["damaged"]) == (1, ["unit 1: values"])
    assert f"again: enformer-features store verify --repair '{planned}'" in done.err
    done = cli("store", "verify", planned, "--repair", "--json")
    assert (done.code, json.loads(done.out)["repaired"]) == (0, [1])
    assert cli("store", "verify", planned).code == 0
    (values.parents[1] / "var" / "zarr.json").write_text("{}")
    done = cli("store", "verify", planned, "--repair")
    assert done.code == 1
    assert "var/zarr.json are damaged; plan it again with the same rows" in done.err
    assert f"then enformer-features store finalize '{planned}'" in done.err


def test_a_finished_store_that_is_restored_is_told_to_be_unfinished(cli, toy, planned):
    cli("store", "run", planned)
    cli("store", "finalize", planned)
    (planned / "var" / "zarr.json").write_text("{}")
    done = cli("store", "plan", planned, *toy.options, "--unit-rows", 5)
    assert done.code == 0
    assert "3 of 3 units are done; next: enformer-features store finalize" in done.err
    assert f"is {planned}.partial until then" in done.err
    assert cli("store", "finalize", planned).code == 0
    assert (
        "until then"
        not in cli(*("store", "plan", planned, *toy.options, "--unit-rows", 5)).err
    )


def test_a_failed_repair_leaves_a_store_that_can_be_repaired(cli, toy, planned):
    cli("store", "run", planned)
    cli("store", "finalize", planned)
    values = planned / "X" / "c.0.0"
    values.write_bytes(values.read_bytes()[:-1] + b"?")
    other = planned.with_name("other.fa")
    letters = str.maketrans("ACGT", "CATG")
    lines = [
        line if line.startswith(">") else line.translate(letters)
        for line in toy.genome.read_text().splitlines()
    ]
    other.write_text("\n".join(lines) + "\n")
    done = cli("store", "verify", planned, "--repair", "--genome", other)
    assert done.code == 2
    assert "read other sequences" in done.err
    done = cli("store", "verify", planned, "--repair")
    assert (done.code, "repaired: 0" in done.out) == (0, True)
    assert cli("store", "verify", planned).code == 0
    assert not planned.with_name(f"{planned.name}.partial").exists()


def test_verifying_an_unfinished_store_says_what_is_missing(cli, planned):
    done = cli("store", "verify", planned)
    assert done.code == 3
    assert done.out.splitlines()[1:] == ["n units: 3", "n checked: 0", "damaged: none"]
    assert "not finished: 3 units are missing" in done.err
    assert f"next: enformer-features store run '{planned}'" in done.err


def test_the_status_tells_markers_begun_units_and_what_is_next(cli, planned):
    cli("store", "run", planned)
    units = planned.with_name(f"{planned.name}.partial") / "enformer_features" / "units"
    (units / "2.json").write_text("{}")
    done = cli("store", "status", planned)
    assert done.code == 3
    assert "begun: unit 2 (attempts: 1)" in done.out
    assert "damaged markers: 2" in done.out
    assert f"next: enformer-features store verify --repair '{planned}'" in done.err


def test_places_that_are_given_are_checked_though_nothing_is_left(cli, planned):
    assert cli("store", "run", planned).code == 0
    done = cli("store", "run", planned, "--weights", "mini")
    assert done.code == 2
    assert "settings.weights_digest" in done.err


def test_two_stores_are_compared(cli, toy, planned, tmp_path):
    other = tmp_path / "other.zarr"
    cli("store", "plan", other, *toy.options, "--unit-rows", 5, "--pooling", "mean")
    assert cli("store", "diff", planned, planned).out == "no differences\n"
    done = cli("store", "diff", planned, other)
    assert done.code == 1
    assert "plan: settings.pooling" in done.out
    told = json.loads(cli("store", "diff", planned, other, "--json").out)
    assert told["differences"] == done.out.splitlines()


def test_another_plan_is_refused_field_by_field(cli, toy, planned):
    done = cli(
        *("store", "plan", planned, *toy.options),
        *("--unit-rows", 5, "--edge", "error"),
    )
    assert done.code == 2
    assert "settings.edge: 'error' != 'pad'" in done.err


def test_an_interrupted_run_says_what_is_kept(cli, planned, monkeypatch):
    embed_unit, units = EmbeddingStore.embed_unit, []

    def interrupted(self, unit):
        if units:
            raise KeyboardInterrupt
        units.append(unit)
        return embed_unit(self, unit)

    monkeypatch.setattr(EmbeddingStore, "embed_unit", interrupted)
    done = cli("store", "run", planned)
    assert done.code == 130
    assert "interrupted; 1 of 3 units are done and kept: to go on, run" in done.err


@pytest.mark.parametrize("part", ["0/3", "4/3", "a/b", "2", "1/0", "-1/2"])
def test_parts_that_are_none_are_refused(cli, tmp_path, part):
    done = cli("store", "run", tmp_path / "f.zarr", f"--units={part}")
    assert done.code == 2
    assert "is no part such as 3/8" in done.err


def test_a_store_that_is_not_there_is_told(cli, tmp_path):
    done = cli("store", "run", tmp_path / "f.zarr")
    assert done.code == 2
    assert "there is no store" in done.err
