"""Components by chromosome, in the layout of the published tables."""

import gzip

import numpy as np
import pandas as pd
import pytest

from enformer_features.exceptions import InputError
from enformer_features.variant_effect import pc_tables
from enformer_features.variant_effect.caution import comment_lines
from enformer_features.variant_effect.pc_tables import (
    pca_tables,
    read_pc_tables,
    write_pc_tables,
)
from enformer_features.variant_effect.pca import VariantPCA
from enformer_features.variant_effect.store import score_variants
from enformer_features.variant_effect.tabix import index_of, read_text
from tests.variant_effect.jobs import KnownJob, variants

pytest.importorskip("pysam")


@pytest.fixture
def components():
    values = np.random.default_rng(0).normal(size=(7, 20)).astype("float32")
    values[2] = np.nan
    return values


def test_there_is_a_table_with_an_index_per_chromosome(tmp_path, components):
    paths = write_pc_tables(tmp_path / "pc", variants(), components)
    assert [path.name for path in paths] == ["chr6.tsv.gz", "chr9.tsv.gz"]
    assert all(index_of(path).exists() for path in paths)
    lines = gzip.decompress(paths[0].read_bytes()).decode().splitlines()
    names = "\t".join(f"PC{i}" for i in range(20))
    header = f"#CHROM\tPOS\tID\tREF\tALT\t{names}"
    assert next(line for line in lines if line[:2] != "##") == header
    assert lines[0].startswith("##enformer_features_caution=")


def test_components_are_read_back_bit_for_bit(tmp_path, components):
    write_pc_tables(tmp_path / "pc", variants(), components)
    found = read_pc_tables(tmp_path / "pc")
    pd.testing.assert_frame_equal(found.iloc[:, :5], variants().iloc[:, :5])
    assert list(found)[5:] == [f"pc{i}" for i in range(20)]
    np.testing.assert_array_equal(found.iloc[:, 5:].astype("float32"), components)


def test_rows_are_found_by_position(tmp_path, components):
    import pysam

    paths = write_pc_tables(tmp_path / "pc", variants()[::-1], components[::-1])
    with pysam.TabixFile(str(paths[-1])) as file:  # 1-based positions 11 to 14
        ids = [line.split("\t")[2] for line in file.fetch("chr6", 11, 13)]
    assert ids == ["rs1", "rs2"]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("prefix", ["PC", "pc"])
def test_published_tables_may_count_from_0_or_1(tmp_path, first, prefix):
    names = "\t".join(f"{prefix}{i + first}" for i in range(3))
    path = tmp_path / "chr1.tsv"
    path.write_text(f"#CHROM\tPOS\tID\tREF\tALT\t{names}\nchr1\t7\trs1\tA\tC\t1\t2\t3")
    found = read_pc_tables(path)
    assert list(found) == [*pc_tables.KEYS, "pc0", "pc1", "pc2"]
    assert found.iloc[0].tolist() == ["chr1", 7, "rs1", "A", "C", 1, 2, 3]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("#CHROM\tPOS\tREF\tALT\tID\tPC0", "begins with columns CHROM, POS, REF"),
        ("#CHROM\tPOS\tID\tREF\tALT\tPC0\tPC2", "has columns PC0, PC2, expected"),
        ("#CHROM\tPOS\tID\tREF\tALT", "expected PC0, PC1 and so on"),
    ],
)
def test_other_tables_are_refused(tmp_path, header, message):
    path = tmp_path / "chr1.tsv"
    path.write_text(f"{header}\n")
    with pytest.raises(InputError, match=message):
        read_pc_tables(path)


def test_an_empty_folder_has_no_tables(tmp_path):
    with pytest.raises(InputError, match="there are no tables of components at"):
        read_pc_tables(tmp_path)


def test_nothing_is_written_if_one_table_is_there(tmp_path, components):
    folder = tmp_path / "pc"
    folder.mkdir()
    (folder / "chr9.tsv.gz").write_text("mine")
    with pytest.raises(InputError, match=r"chr9.tsv.gz exists"):
        write_pc_tables(folder, variants(), components)
    assert [path.name for path in folder.iterdir()] == ["chr9.tsv.gz"]
    write_pc_tables(folder, variants(), components, overwrite=True)
    assert len(read_pc_tables(folder)) == 7


def test_tables_of_another_fit_go_and_other_files_stay(tmp_path, components):
    folder = tmp_path / "pc"
    write_pc_tables(folder, variants(), components)
    (folder / "notes.tsv").write_text("#a\tb\n1\t2\n")
    (folder / "more.tsv.gz").write_text("mine")
    write_pc_tables(folder, variants()[4:], components[4:, :3], overwrite=True)
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["chr9.tsv.gz", "chr9.tsv.gz.tbi", "more.tsv.gz", "notes.tsv"]
    assert list(read_pc_tables(folder / "chr9.tsv.gz"))[5:] == ["pc0", "pc1", "pc2"]


def test_tables_by_others_are_never_removed(tmp_path, components):
    published = tmp_path / "chr1.tsv"
    published.write_text("#CHROM\tPOS\tID\tREF\tALT\tPC1\nchr1\t7\trs1\tA\tC\t1\n")
    with pytest.raises(InputError, match=r"by others: chr1\.tsv; give a new folder"):
        write_pc_tables(tmp_path, variants(), components, overwrite=True)
    assert list(tmp_path.iterdir()) == [published]


def test_tables_stay_as_they_are_until_all_new_ones_are_written(
    tmp_path, components, monkeypatch
):
    folder = tmp_path / "pc"
    write_pc_tables(folder, variants(), components)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    written = []

    def stop_at_the_second(lines):
        written.append(len(lines))
        if len(written) == 2:
            raise KeyboardInterrupt
        return []

    monkeypatch.setattr(pc_tables, "as_text", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        write_pc_tables(folder, variants(), components * 2, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]


def test_what_does_not_fit_is_refused(tmp_path, components):
    with pytest.raises(InputError, match=r"shape \(6, 20\), the table has 7 rows"):
        write_pc_tables(tmp_path / "pc", variants(), components[1:])
    with pytest.raises(InputError, match="there is no folder"):
        write_pc_tables(tmp_path / "a" / "pc", variants(), components)
    mixed = variants().assign(chrom=["chr9"] * 4 + ["9"] * 3)
    with pytest.raises(InputError, match="contigs chr9, 9 would share files"):
        write_pc_tables(tmp_path / "pc", mixed, components)


def test_names_of_contigs_become_names_of_files(tmp_path, components):
    table = variants().assign(chrom="HLA-A*01:01/x")
    (path,) = write_pc_tables(tmp_path / "pc", table, components)
    assert path.name == "chrHLA-A_01_01_x.tsv.gz"
    assert set(read_pc_tables(path)["chrom"]) == {"HLA-A*01:01/x"}


class RandomJob(KnownJob):
    def known(self):
        return np.random.default_rng(1).normal(size=(len(self), 6)).astype("float32")


@pytest.mark.parametrize("score", [None, "SAD", "max_bin"])
def test_components_of_a_store_are_those_of_its_scores(tmp_path, score):
    job = RandomJob(variants(40))
    store = score_variants(job, tmp_path / "s.zarr", unit_rows=7)
    pca = pca_tables(store, tmp_path / "pc", score=score, n_components=2)
    columns = slice(3, 6) if score == "max_bin" else slice(0, 3)
    expected = pca.transform(job.expected()[:, columns])
    found = read_pc_tables(tmp_path / "pc")[["pc0", "pc1"]]
    np.testing.assert_array_equal(found.astype("float32"), expected)
    assert np.isnan(expected[2]).all()


def test_tables_of_a_store_say_its_caution_and_provenance(tmp_path):
    job = RandomJob(variants(), weights="untrained-tiny")
    store = score_variants(job, tmp_path / "s.zarr")
    pca_tables(store, tmp_path / "pc", n_components=2)
    comments, _ = read_text(tmp_path / "pc" / "chr6.tsv.gz")
    assert comments == comment_lines(store.provenance)
    assert "the numbers mean nothing" in comments[0]


def test_large_stores_are_fitted_on_evenly_spaced_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(pc_tables, "FIT_ROWS", 10)
    job = RandomJob(variants(40))
    store = score_variants(job, tmp_path / "s.zarr")
    pca = pca_tables(store, tmp_path / "pc", n_components=2)
    assert pca.pca_.n_samples_ == 10
    assert len(read_pc_tables(tmp_path / "pc")) == 40


def test_what_is_fitted_is_bounded_in_bytes_of_its_score_alone(tmp_path, monkeypatch):
    store = score_variants(RandomJob(variants(40)), tmp_path / "s.zarr")
    monkeypatch.setattr(pc_tables, "FIT_BYTES", 13 * 3 * 4)  # of three targets
    shapes = []

    def fit(self, X):
        shapes.append((X.shape, X.base))
        return actual(self, X)

    actual = VariantPCA.fit
    monkeypatch.setattr(VariantPCA, "fit", fit)
    pca_tables(store, tmp_path / "pc", n_components=2)
    assert shapes == [((13, 3), None)]  # and no part of a larger array


def test_a_score_that_is_not_there_is_refused(tmp_path):
    store = score_variants(KnownJob(variants()), tmp_path / "s.zarr")
    with pytest.raises(InputError, match="score='D2' is not in the store; it has SAD"):
        pca_tables(store, tmp_path / "pc", score="D2")
