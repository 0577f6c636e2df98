from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from enformer_features.exceptions import InputError, InputTypeError, StoreError
from enformer_features.storage import files
from enformer_features.storage.files import (
    OLD,
    atomic_write,
    check_output,
    hidden_sibling,
    remove_leftovers,
    remove_replaced,
    take_place,
)


def test_output_is_expanded_absolute_and_follows_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    real = tmp_path / "real.txt"
    (tmp_path / "link.txt").symlink_to(real)
    for path in ("~/real.txt", "real.txt", "link.txt"):
        assert check_output(path, overwrite=False) == real.resolve()


def test_existing_output_needs_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(InputError, match=r"out\.txt exists; .*overwrite=True"):
        check_output(path, overwrite=False)
    assert check_output(path, overwrite=True) == path.resolve()


def test_missing_parent_folder_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*absent"):
        check_output(tmp_path / "absent" / "out.txt", overwrite=True)
    with pytest.raises(InputError, match="is a folder; give the name of a file"):
        check_output(tmp_path, overwrite=True)
    with pytest.raises(InputTypeError, match="path is int, expected a str or a path"):
        check_output(5, overwrite=True)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_special_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is not a regular file"):
        check_output(tmp_path / "pipe", overwrite=True)


def test_output_that_is_an_input_is_refused_also_through_a_link(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_text("data")
    (tmp_path / "link.txt").symlink_to(path)
    with pytest.raises(InputError, match=r"in\.txt is also an input"):
        check_output(tmp_path / "link.txt", overwrite=True, inputs=[path])
    assert check_output(tmp_path / "b.txt", overwrite=False, inputs=[path]).name


@pytest.mark.parametrize(
    ("refused", "message"),
    [("out.txt", "is write-protected"), ("", "no permission to write in")],
)
def test_what_may_not_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str, message: str
) -> None:
    path = tmp_path.resolve() / "out.txt"
    path.write_text("old")
    # the superuser may write everywhere, so permission is asked of a stand-in
    locked = path.parent / refused
    monkeypatch.setattr(os, "access", lambda asked, mode: Path(asked) != locked)
    with pytest.raises(StoreError, match=message):
        check_output(path, overwrite=True)


def test_content_appears_only_when_the_block_is_done(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent.resolve()
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_permissions_of_a_replaced_file_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    path.chmod(0o600)
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.stat().st_mode & 0o777 == 0o600


def test_replacing_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    with atomic_write(tmp_path / "link.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_longest_file_names_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 120 + " b.txt")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("error", [Interrupted, ZeroDivisionError])
def test_errors_that_are_not_of_the_disk_pass_and_leave_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")

    def write_a_half() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            msg = "stop"
            raise error(msg)

    with pytest.raises(error, match="stop"):
        write_a_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_full_disk_names_path_and_size_also_behind_a_library_error(
    tmp_path: Path,
) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")

    def full() -> None:
        with atomic_write(path, bytes_needed=4_001) as temporary:
            temporary.write_text("half")
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError:
                msg = "cannot close the file"
                raise RuntimeError(msg)  # noqa: B904

    message = r"out\.txt could not be written: No space left .*4,001 bytes"
    with pytest.raises(StoreError, match=message):
        full()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_disk_that_is_too_small_is_refused_before_the_block_runs(
    tmp_path: Path,
) -> None:
    with (
        pytest.raises(
            StoreError, match=r"out\.txt cannot be written: 1,000.* are free"
        ),
        atomic_write(tmp_path / "out.txt", bytes_needed=10**18),
    ):
        pytest.fail("the block ran")
    assert os.listdir(tmp_path) == []


def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Make two folders, each with a file that has its name."""
    made = tmp_path / "new", tmp_path / "out.zarr"
    for folder in made:
        folder.mkdir()
        (folder / folder.name).touch()
    return made


def test_a_folder_is_replaced_with_what_killed_writers_had_put_aside(
    tmp_path: Path,
) -> None:
    new, target = folders(tmp_path)
    for name in (target, tmp_path / "another.zarr"):
        hidden_sibling(name, OLD).mkdir()
    take_place(new, target)
    remove_replaced(target)
    assert os.listdir(target) == ["new"]
    left = sorted(path.name[:9] for path in tmp_path.iterdir())
    assert left == [".another.", "out.zarr"]


def test_leftovers_of_killed_writers_are_removed_and_never_those_of_others(
    tmp_path: Path,
) -> None:
    new, target = folders(tmp_path)
    hidden_sibling(target, ".partial").mkdir()
    hidden_sibling(target, ".partial").touch()
    kept = [new, target, hidden_sibling(new, ".partial"), tmp_path / ("n" * 40)]
    kept.append(hidden_sibling(tmp_path / ("n" * 41), ".partial"))
    for path in kept[2:]:
        path.touch()
    remove_leftovers(target)
    remove_leftovers(tmp_path / ("n" * 40))
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_folder_is_there_again_when_its_successor_cannot_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, target = folders(tmp_path)
    rename = files.rename

    def stop_at_the_second(old: Path, name: Path) -> None:
        if old == new:
            raise KeyboardInterrupt
        rename(old, name)

    monkeypatch.setattr(files, "rename", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        take_place(new, target)
    assert os.listdir(target) == ["out.zarr"]
