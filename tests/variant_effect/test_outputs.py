"""Every kind of file: what is in it, and what it says about itself."""

import gzip
import json

import anndata
import numpy as np
import pandas as pd
import pytest

from enformer_features.exceptions import InputError, InputTypeError, VariantWarning
from enformer_features.genomics.vcf import read_vcf
from enformer_features.storage.files import OLD, hidden_sibling
from enformer_features.variant_effect.hdf5 import read_sad_hdf5
from enformer_features.variant_effect.outputs import (
    SUFFIXES,
    check_scores_path,
    info_ids,
    read_scores,
    write_scores,
)
from enformer_features.variant_effect.store import ScoreArray, score_variants
from enformer_features.variant_effect.tabix import index_of
from tests.variant_effect.jobs import REASON, KnownJob, variants

pytest.importorskip("pysam")

every_suffix = pytest.mark.parametrize("suffix", SUFFIXES)

VCF = """##fileformat=VCFv4.3
##INFO=<ID=AC,Number=A,Type=Integer,Description="count">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tNA1
chr6\t11\trs1\tA\tC,<DEL>,G\t9.50\tPASS\tAC=1,2,3;DB\tGT\t0|1
chr6\t12\trs2\tG\t<INS>\t.\t.\t.\tGT\t./.
chr6\t15\t.\tT\tTA\t.\tq10\tAC=7\tGT\t1/1
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.vcf"
    path.write_text(VCF)
    return path


@pytest.fixture
def job():
    return KnownJob(variants(), failing=(5,))


def write(job, path, **more):
    reasons = job.table["reason"].to_numpy(object).copy()
    reasons[list(job.failing)] = "not finite"
    return write_scores(ScoreArray(job.expected(), reasons), job, path, **more)


def about(job):
    """Return what outputs say of their scores."""
    return {**job.provenance(), "scores_identity": job.identity()}


# Tables


@pytest.mark.parametrize("name", ["s.tsv", "s.tsv.gz"])
def test_tables_hold_variants_reasons_and_scores(tmp_path, job, name):
    path = write(job, tmp_path / name)
    found = read_scores(path)
    assert list(found) == [*job.table, *job.names]
    rest = ["chrom", "pos", "id", "ref", "alt", "record", "allele"]
    pd.testing.assert_frame_equal(found[rest], job.table[rest])
    assert found["reason"].tolist() == ["", "", REASON, "", "", "not finite", ""]
    values = found[job.names].to_numpy().astype("float32")
    np.testing.assert_array_equal(values, job.expected())
    assert index_of(path).exists() == (name == "s.tsv.gz")
    provenance = found.attrs["comments"][-1].partition("=")[2]
    assert json.loads(provenance) == about(job)


def test_rows_of_a_table_are_found_by_position(tmp_path, job):
    import pysam

    path = write(job, tmp_path / "s.tsv.gz")
    with pysam.TabixFile(str(path)) as file:
        lines = [line.split("\t")[:3] for line in file.fetch("9", 5, 7)]
    assert lines == [["9", "6", "rs5"], ["9", "7", "rs6"]]


def test_unsorted_tables_keep_their_order_and_get_no_index(tmp_path):
    job = KnownJob(variants().iloc[[3, 0, 6, 1]].reset_index(drop=True))
    with pytest.warns(VariantWarning, match="no index: its rows are not sorted"):
        path = write(job, tmp_path / "s.tsv.gz")
    assert read_scores(path)["id"].tolist() == ["rs3", "rs0", "rs6", "rs1"]


def test_a_table_of_something_else_is_refused(tmp_path):
    (tmp_path / "a.tsv").write_text("#a\tb\n1\t2\n")
    with pytest.raises(InputError, match="does not begin with the columns chrom"):
        read_scores(tmp_path / "a.tsv")


# VCF


def job_of(source, **columns):
    return KnownJob(read_vcf(source).assign(**columns))


@pytest.mark.parametrize("name", ["s.vcf", "s.vcf.gz"])
def test_a_vcf_keeps_every_field_and_gets_values_per_allele(tmp_path, source, name):
    job = job_of(source)
    path = write(job, tmp_path / name, source=source)
    content = path.read_bytes()
    text = (gzip.decompress(content) if name.endswith("gz") else content).decode()
    old, new = VCF.splitlines(), text.splitlines()
    assert new[:2] == old[:2]
    assert next(line for line in new if line[0] != "#").split("\t")[7] == (
        "AC=1,2,3;DB;SAD_liver=0.1,.,2.1;SAD_T_cell=10.1,.,12.1;SAD_T_cell_2=20.1,.,"
        "22.1;max_bin_liver=30,.,32;max_bin_T_cell=40,.,42;max_bin_T_cell_2=50,.,52;"
        "variant_effect_reason=.,symbolic,."
    )
    for before, after in zip(old[3:], new[-3:], strict=True):
        kept, got = before.split("\t"), after.split("\t")
        assert got[7].startswith(kept[7].replace(".", ""))
        assert [*got[:7], *got[8:]] == [*kept[:7], *kept[8:]]
    assert any(line.startswith("##enformer_features_caution=") for line in new)
    record = next(line for line in new if "features_provenance=" in line)
    assert json.loads(record.partition("=")[2]) == about(job)
    assert index_of(path).exists() == name.endswith("gz")


def test_a_vcf_is_read_by_other_tools(tmp_path, source):
    import pysam

    job = job_of(source)
    path = write(job, tmp_path / "s.vcf.gz", source=source)
    with pysam.VariantFile(str(path)) as file:
        records = list(file.fetch("chr6", 10, 20))
    assert records[0].info["SAD_liver"] == pytest.approx((0.1, None, 2.1))
    assert records[2].info["max_bin_T_cell"] == (44,)


def test_the_round_trip_of_a_vcf_gives_the_same_variants(tmp_path, source):
    path = write(job_of(source), tmp_path / "s.vcf", source=source)
    pd.testing.assert_frame_equal(read_vcf(path), read_vcf(source))


def test_genes_of_a_variant_share_a_field(tmp_path, source):
    table = read_vcf(source).iloc[[0, 0, 2, 4]].reset_index(drop=True)
    job = KnownJob(table.assign(gene=["A|1", "B", "A|1", "C"]), targets=("t",))
    path = write(job, tmp_path / "s.vcf", source=source)
    infos = [
        line.split("\t")[7] for line in path.read_text().splitlines() if line[0] != "#"
    ]
    assert infos[0].startswith("AC=1,2,3;DB;SAD_t=A_1|0.1&B|1.1,.,A_1|2.1;max_bin_t=")
    assert infos[1] == "."  # near no gene
    assert "SAD_t=C|3.1;max_bin_t=C|13" in infos[2]


def test_variants_from_no_file_become_a_vcf_of_their_own(tmp_path, job):
    path = write(job, tmp_path / "s.vcf")
    found = read_vcf(path)
    assert found["pos"].tolist() == job.table["pos"].tolist()
    assert "SAD_liver=4.1" in path.read_text().splitlines()[-3]


def test_keys_that_are_there_need_overwrite(tmp_path, source):
    job = job_of(source)
    first = write(job, tmp_path / "s.vcf", source=source)
    with pytest.raises(InputError, match="SAD_liver"):
        check_scores_path(tmp_path / "t.vcf", job, source=first)
    second = write(job, tmp_path / "t.vcf", source=first, overwrite=True)
    assert second.read_text().count("ID=SAD_liver,") == 1


def test_what_does_not_fit_the_source_is_found_before_scoring(tmp_path, source):
    out = tmp_path / "s.vcf"
    shuffled = KnownJob(read_vcf(source).iloc[[4, 0]].reset_index(drop=True))
    with pytest.raises(InputError, match="values must be in the order of the file"):
        check_scores_path(out, shuffled, source=source)
    job = job_of(source)
    check_scores_path(out, job, source=source)
    source.write_text(VCF + "chr6\t16\trs4\tA\tC\t.\n")
    with pytest.raises(InputError, match=r"in\.vcf:7: 6 column\(s\)"):
        check_scores_path(out, job_of(source), source=source)


@pytest.mark.parametrize(("scores", "n"), [(("SAD",), 201), (("SAD", "D1"), 101)])
def test_more_than_200_fields_do_not_go_into_a_vcf(tmp_path, source, scores, n):
    def job_of_targets(n):
        names = tuple(f"t{i}" for i in range(n))
        return KnownJob(read_vcf(source), scores, names)

    with pytest.raises(InputError, match=r"INFO fields \(.* too many .* select tracks"):
        write(job_of_targets(n), tmp_path / "s.vcf", source=source)
    path = write(job_of_targets(n - 1), tmp_path / "s.vcf", source=source)
    assert path.read_text().count("##INFO=<ID=") == 200 + 2  # AC, and the reason


def test_the_source_is_not_written_over(source):
    with pytest.raises(InputError, match="is also an input"):
        check_scores_path(source, source=source, overwrite=True)


def test_names_become_keys_that_differ():
    assert info_ids(["1", "a b", "a-b", "a_b"]) == ["_1", "a_b", "a_b_2", "a_b_3"]


# AnnData and HDF5


@pytest.mark.parametrize("name", ["s.h5ad", "s.zarr"])
def test_anndata_has_a_layer_per_score(tmp_path, job, name):
    path = write(job, tmp_path / name)
    read = anndata.read_zarr if name == "s.zarr" else anndata.read_h5ad
    adata = read(path)
    layers = np.concatenate([adata.layers[score] for score in job.scores], axis=1)
    np.testing.assert_array_equal(layers, job.expected())
    assert layers.dtype == np.float32
    assert list(adata.var_names) == job.targets
    assert adata.obs_names[1] == "chr6:12:A>CT"
    assert adata.obs["reason"].tolist() == ["", "", REASON, "", "", "not finite", ""]
    assert "diagnosis" in adata.uns["caution"][0]
    told = json.loads(adata.uns["enformer_features"]["provenance_json"])
    assert told.items() >= about(job).items()


def test_what_killed_writers_put_aside_goes_with_the_next_output(tmp_path, job):
    path = write(job, tmp_path / "s.zarr")
    path.rename(hidden_sibling(path, OLD))
    write(job, path)
    assert list(tmp_path.iterdir()) == [path]


def test_variants_that_repeat_are_numbered_in_anndata(tmp_path):
    table = variants().iloc[[0, 0, 1]].reset_index(drop=True)
    path = write(KnownJob(table), tmp_path / "s.h5ad")
    names = anndata.read_h5ad(path).obs_names
    assert list(names) == ["chr6:11:A>C", "chr6:11:A>C-1", "chr6:12:A>CT"]


def test_the_published_layout_holds_every_score(tmp_path, job):
    with read_sad_hdf5(write(job, tmp_path / "s.h5")) as file:
        assert set(file.score_names) == {"SAD", "max_bin"}
        found = np.concatenate([file["SAD"][:], file["max_bin"][:]], axis=1)
        np.testing.assert_array_equal(found, job.expected().astype("float16"))
        assert file.variants["reason"][2] == REASON


# All of them


@every_suffix
def test_what_is_there_is_replaced_only_when_asked(tmp_path, job, suffix):
    path = tmp_path / f"s{suffix}"
    write(job, path)
    with pytest.raises(InputError, match="exists"):
        write(job, path)
    write(job, path, overwrite=True)
    extra = {index_of(path).name} if index_of(path).exists() else set()
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name} | extra


@every_suffix
def test_a_store_gives_the_same_file_as_scores_in_memory(tmp_path, suffix):
    job = KnownJob(variants())
    store = score_variants(job, tmp_path / "kept.zarr", unit_rows=2)
    one = write_scores(store, job, tmp_path / f"a{suffix}")
    two = write_scores(job.expected(), job, tmp_path / f"b{suffix}")
    if suffix in {".tsv", ".tsv.gz", ".vcf", ".vcf.gz"}:
        assert one.read_bytes() == two.read_bytes()
    elif suffix == ".h5":
        with read_sad_hdf5(one) as a, read_sad_hdf5(two) as b:
            np.testing.assert_array_equal(a.SAD[:], b.SAD[:])
    else:
        read = anndata.read_zarr if suffix == ".zarr" else anndata.read_h5ad
        np.testing.assert_array_equal(read(one).layers["SAD"], read(two).layers["SAD"])


@every_suffix
def test_untrained_weights_are_told_in_every_file(tmp_path, suffix):
    job = KnownJob(variants(), weights="untrained-tiny")
    path = write(job, tmp_path / f"s{suffix}")
    if suffix == ".h5":
        with read_sad_hdf5(path) as file:
            told = file.caution
    elif suffix in {".h5ad", ".zarr"}:
        read = anndata.read_zarr if suffix == ".zarr" else anndata.read_h5ad
        told = " ".join(read(path).uns["caution"])
    else:
        content = path.read_bytes()
        told = (gzip.decompress(content) if suffix[-3:] == ".gz" else content).decode()
    assert "the numbers mean nothing" in told
    assert "Not for diagnosis" in told


@every_suffix
def test_nothing_stays_behind_when_scores_cannot_be_read(tmp_path, job, suffix):
    class Broken(ScoreArray):
        def iterate(self):
            yield slice(0, 2), self.values[:2]
            message = "the disk is gone"
            raise OSError(message)

    scores = Broken(job.expected(), job.table["reason"])
    with pytest.raises(OSError, match="could not be written"):
        write_scores(scores, job, tmp_path / f"s{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_other_suffixes_paths_and_shapes_are_refused(tmp_path, job):
    with pytest.raises(InputError, match=r"needs one of the suffixes \.tsv, \.tsv\.gz"):
        write(job, tmp_path / "s.csv")
    with pytest.raises(InputTypeError, match="path is int"):
        write(job, 3)
    with pytest.raises(InputError, match="there is no folder"):
        write(job, tmp_path / "absent" / "s.zarr")
    with pytest.raises(InputError, match=r"shape \(7, 5\), the job has \(7, 6\)"):
        write_scores(job.expected()[:, 1:], job, tmp_path / "s.tsv")


def test_a_folder_of_something_else_is_never_replaced(tmp_path, job):
    (tmp_path / "s.zarr").mkdir()
    (tmp_path / "s.zarr" / "mine.txt").touch()
    with pytest.raises(InputError, match="no folder in zarr format"):
        write(job, tmp_path / "s.zarr", overwrite=True)
