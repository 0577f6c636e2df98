import sys

import pytest

from enformer_features.folders import user_cache_folder


def test_the_environment_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("ENFORMER_FEATURES_CACHE", str(tmp_path / "mine"))
    assert user_cache_folder() == tmp_path / "mine"


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "base/enformer_features"),
        ("linux", None, "home/.cache/enformer_features"),
        ("darwin", None, "home/Library/Caches/enformer_features"),
        ("win32", "LOCALAPPDATA", "base/enformer_features"),
    ],
)
def test_else_the_platforms_folder_is_used(
    monkeypatch, tmp_path, platform, variable, expected
):
    for name in ("ENFORMER_FEATURES_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "platform", platform)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "base"))
    assert user_cache_folder() == tmp_path / expected
