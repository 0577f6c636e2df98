import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from enformer_features.exceptions import InputError, InputTypeError
from enformer_features.plotting import plot_coefficients

TRACKS = pd.DataFrame(
    {
        "assay": ["CAGE", "DNASE", "CAGE"],
        "biosample": ["liver", "liver", "a lung"],
    }
)


def drawn(ax):
    """Coefficients and heights of the dots of each lane."""
    return [np.asarray(line.get_xydata()) for line in ax.lines[:-1]]


def test_there_is_a_lane_per_assay_with_its_share():
    ax = plot_coefficients([[0.0, 0.0, 0.0], [0.5, -0.3, -0.2]], TRACKS, target=1)
    cage, dnase = drawn(ax)
    assert cage[:, 0].tolist() == [0.5, -0.2]
    assert dnase[:, 0].tolist() == [-0.3]
    assert np.abs(cage[:, 1]).max() < 0.5
    assert abs(dnase[0, 1] - 1.0) < 0.5
    ticks = [label.get_text() for label in ax.get_yticklabels()]
    assert ticks == ["CAGE (2 tracks, 70%)", "DNASE (1 track, 30%)"]


def test_the_largest_coefficients_are_named():
    ax = plot_coefficients([0.5, -0.3, -0.2], TRACKS, n_labels=2)
    assert [(text.get_text(), text.xy[0]) for text in ax.texts] == [
        ("liver", 0.5),
        ("liver", -0.3),
    ]


def test_coefficients_are_those_of_a_pipeline_s_last_step():
    X = np.random.default_rng(0).normal(size=(20, 3))
    model = make_pipeline(StandardScaler(), Ridge()).fit(X, X[:, 0])
    cage, _ = drawn(plot_coefficients(model, TRACKS))
    assert np.array_equal(cage[:, 0], model[-1].coef_[[0, 2]])


def test_heads_without_coefficients_of_tracks_are_refused():
    trees = RandomForestRegressor(n_estimators=1).fit(np.eye(3), [0, 1, 2])
    with pytest.raises(InputError, match="RandomForestRegressor has no coef_"):
        plot_coefficients(trees, TRACKS)
    with pytest.raises(InputError, match=r"\(1, 2\) for 3 tracks.*PCA"):
        plot_coefficients([0.1, 0.2], TRACKS)
    with pytest.raises(InputError, match="target=1 is none of the 1"):
        plot_coefficients([0.1, 0.2, 0.3], TRACKS, target=1)
    with pytest.raises(InputTypeError, match="tracks='CAGE' is one text"):
        plot_coefficients([0.1], "CAGE")
    with pytest.raises(InputError, match="no column 'assay'"):
        plot_coefficients([0.1] * 3, TRACKS.drop(columns="assay"))
