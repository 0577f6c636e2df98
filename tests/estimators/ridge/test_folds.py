import numpy as np
import pytest
from sklearn.model_selection import GroupKFold

from enformer_features.estimators.ridge.folds import OUT, TEST, TRAIN, make_folds
from enformer_features.exceptions import InputError

GROUPS = list("aabbbccccd")


def parts_of_rows(folds):
    return folds.parts[folds.block]


def test_whole_groups_are_tested_once_as_group_k_fold_does():
    parts = parts_of_rows(make_folds(3, None, GROUPS, 10))
    splits = GroupKFold(3).split(GROUPS, groups=GROUPS)
    for fold, (train, test) in enumerate(splits):
        assert (parts[train, fold] == TRAIN).all()
        assert (parts[test, fold] == TEST).all()
    assert len(np.unique(parts, axis=0)) == 3


def test_rows_that_a_fold_leaves_out_are_a_block_of_their_own():
    folds = make_folds([([0, 1], [2]), ([2], [0])], None, None, 4)
    assert parts_of_rows(folds).tolist() == [
        [TRAIN, TEST],
        [TRAIN, OUT],
        [TEST, TRAIN],
        [OUT, OUT],
    ]


def test_rows_are_dealt_out_in_turn():
    folds = make_folds("rows", None, None, 7)
    assert folds.block.tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert (folds.parts == TEST).sum(axis=0).tolist() == [1] * 5


def test_fewer_groups_than_folds_are_listed():
    with pytest.raises(InputError, match="there are 4: a, b, c, d; give a smaller"):
        make_folds(5, None, GROUPS, 10)
