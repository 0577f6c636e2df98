"""The published layout: written, read in both spellings, and kept in range."""

import h5py
import numpy as np
import pandas as pd
import pytest

from enformer_features.exceptions import InputError, StoreError, VariantWarning
from enformer_features.variant_effect.hdf5 import read_sad_hdf5, write_sad_hdf5
from enformer_features.variant_effect.store import ScoreArray
from tests.variant_effect.jobs import REASON, variants

TARGETS = ["CNhs1", "CNhs2", "CNhs3"]


def scores_of(n, n_columns=3):
    values = np.arange(n * n_columns).reshape(n, n_columns) / 4
    values[2] = np.nan
    return ScoreArray(values, variants(n)["reason"])


def test_scores_and_variants_are_read_back(tmp_path):
    path, table, scores = tmp_path / "sad.h5", variants(), scores_of(7, 6)
    write_sad_hdf5(path, table, scores, ["SAD", "SAR"], TARGETS)
    with read_sad_hdf5(path) as file:
        expected = table[["chrom", "pos", "id", "ref", "alt", "reason"]]
        pd.testing.assert_frame_equal(file.variants, expected)
        assert file.targets["target_id"].tolist() == TARGETS
        assert file.score_names == ["SAD", "SAR"]
        np.testing.assert_array_equal(file.SAD[:], scores.values[:, :3])
        np.testing.assert_array_equal(file.SAR[3:5, 1], scores.values[3:5, 4])
        chunks = [part for _, part in file.chunks("SAR")]
        np.testing.assert_array_equal(np.vstack(chunks), scores.values[:, 3:])
        assert file.variants["reason"][2] == REASON


@pytest.mark.parametrize(("keys", "other"), [("ref_allele", "ref"), ("ref", "x")])
def test_keys_and_types_are_the_published_ones(tmp_path, keys, other):
    path = tmp_path / "sad.h5"
    write_sad_hdf5(path, variants(), scores_of(7), ["SAD"], TARGETS, allele_keys=keys)
    with h5py.File(path) as file:
        published = {"snp", "chr", "pos", "target_ids", "target_labels", "SAD"}
        assert published | {keys, keys.replace("ref", "alt")} <= file.keys()
        assert other not in file
        assert (file["pos"].dtype, file["SAD"].dtype) == ("uint32", "float16")
        assert file["chr"][:].tolist() == [b"chr6"] * 4 + [b"9"] * 3
        assert file[keys.replace("ref", "alt")][1] == b"CT"
        assert file["SAD"].shape == (7, 3)
    with read_sad_hdf5(path) as file:
        assert file.variants["alt"].tolist() == variants()["alt"].tolist()


def published_file(path, **changes):
    """A file as the release has it: no extra keys, texts of one width."""
    content = {
        "snp": np.array([b"rs1", b"rs22"]),
        "chr": np.array([b"chr1", b"chr1"]),
        "pos": np.array([5, 9], dtype="uint32"),
        "ref": np.array([b"A", b"G"]),
        "alt": np.array([b"C", b"T"]),
        "target_ids": np.array([b"t1", b"t2", b"t3"]),
        "target_labels": np.array([b"CAGE:liver", b"CAGE:lung", b"DNASE:liver"]),
        "SAD": np.ones((2, 3), dtype="float16"),
        "SAR": np.zeros((2, 3), dtype="float16"),
        "percentiles": np.linspace(0, 1, 11),
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            if values is not None:
                file[name] = values
    return path


def test_a_released_file_is_read(tmp_path):
    with read_sad_hdf5(published_file(tmp_path / "a.h5")) as file:
        assert file.variants.iloc[1].tolist() == ["chr1", 9, "rs22", "G", "T"]
        assert file.targets["target_label"][2] == "DNASE:liver"
        assert (file.score_names, file.caution) == (["SAD", "SAR"], "")
        assert file.provenance == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alt": None}, r"no ref_allele and alt_allele \(or ref and alt\)"),
        ({"pos": None, "snp": None}, "no pos, snp"),
        ({"target_ids": None}, "no target_ids"),
        ({"chr": np.array([b"chr1"])}, "columns of variants differ in length"),
        ({"SAD": np.ones((3, 3)), "SAR": None}, r"no scores of shape \(2, 3\)"),
    ],
)
def test_another_layout_is_refused_by_what_is_missing(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read_sad_hdf5(published_file(tmp_path / "a.h5", **changes))


def test_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_sad_hdf5(tmp_path / "absent.h5")
    (tmp_path / "a.h5").write_text("no")
    with pytest.raises(InputError, match="no HDF5 file, or is damaged"):
        read_sad_hdf5(tmp_path / "a.h5")
    with (
        read_sad_hdf5(published_file(tmp_path / "b.h5")) as file,
        pytest.raises(InputError, match="no score 'D2'; it has SAD, SAR"),
    ):
        file["D2"]


def test_scores_beyond_float16_name_row_and_column_or_are_clipped(tmp_path):
    path, given = tmp_path / "a.h5", scores_of(7)
    given.values[4, 1] = -70_000
    arguments = (path, variants(), given, ["SAD"], TARGETS)
    with pytest.raises(StoreError, match="SAD of CNhs2 is -70000 in row 4, beyond"):
        write_sad_hdf5(*arguments)
    assert not path.exists()
    write_sad_hdf5(*arguments, clip=True)
    with read_sad_hdf5(path) as file:
        assert file.SAD[4].tolist() == [3.0, -65504.0, 3.5]
    write_sad_hdf5(*arguments, dtype="float32", overwrite=True)
    with read_sad_hdf5(path) as file:
        np.testing.assert_array_equal(file.SAD[:], given.values)


def test_scores_that_float16_cannot_tell_apart_warn(tmp_path):
    given = scores_of(7)
    given.values[:, 1] = [1e-7, 2e-7, np.nan, 0, 1, 1, 1]
    arguments = (variants(), given, ["SAD"], TARGETS)
    way_on = r"write \.tsv\.gz, \.h5ad or \.zarr, which hold float32"
    with pytest.warns(VariantWarning, match=rf"in SAD of CNhs2; sum .* {way_on}"):
        write_sad_hdf5(tmp_path / "a.h5", *arguments)
    about = {"head": "Ridge()"}  # whose predictions have no bins to sum
    with pytest.warns(VariantWarning, match=f"in SAD of CNhs2; {way_on}"):
        write_sad_hdf5(tmp_path / "c.h5", *arguments, provenance=about)
    write_sad_hdf5(tmp_path / "b.h5", *arguments, dtype="float32")


def test_the_file_says_how_far_it_can_be_trusted(tmp_path):
    path = tmp_path / "a.h5"
    about = {"weights": "untrained-tiny", "shifts": [0]}
    write_sad_hdf5(path, variants(), scores_of(7), ["SAD"], TARGETS, provenance=about)
    with read_sad_hdf5(path) as file:
        assert file.caution.startswith("The weights of this network are untrained")
        assert file.provenance == about


def test_names_must_fit(tmp_path):
    arguments = (tmp_path / "a.h5", variants(), scores_of(7), ["SAD"], TARGETS)
    with pytest.raises(InputError, match="2 target_labels for 3 targets"):
        write_sad_hdf5(*arguments, target_labels=["a", "b"])
    with pytest.raises(InputError, match="did you mean 'ref_allele'"):
        write_sad_hdf5(*arguments, allele_keys="ref_alele")


def test_no_variants_make_an_empty_file(tmp_path):
    empty = ScoreArray(np.zeros((0, 3)), [])
    write_sad_hdf5(tmp_path / "a.h5", variants(0), empty, ["SAD"], TARGETS)
    with read_sad_hdf5(tmp_path / "a.h5") as file:
        assert file.SAD.shape == (0, 3)
        assert len(file.variants) == 0
