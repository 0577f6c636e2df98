"""Text files, plain or gzipped, with errors that name the file."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO, cast

from enformer_features.exceptions import InputError, InputTypeError

GZIP_MAGIC = b"\x1f\x8b"


def as_path(path: object) -> Path:
    """Take a text or a path, with ``~`` expanded.

    Raises
    ------
    InputTypeError
        If it is of another kind.
    """
    if not isinstance(path, (str, os.PathLike)):
        msg = f"path is {type(path).__name__}, expected a str or a pathlib.Path"
        raise InputTypeError(msg)
    return Path(path).expanduser()


@contextmanager
def open_text(file: Path) -> Iterator[TextIO]:
    r"""Open a UTF-8 text file, unpacking it when its first bytes say gzip.

    Parameters
    ----------
    file
        The file.

    Yields
    ------
    TextIO
        The text, with line ends as ``"\n"`` and without a byte order mark.

    Raises
    ------
    InputError
        If the file is missing, a directory, not readable, not text, or a damaged
        gzip file. The last two may show only while the text is read.
    """
    try:
        with file.open("rb") as raw:
            packed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            binary = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if packed else raw
            with io.TextIOWrapper(binary, encoding="utf-8-sig") as text:
                yield text
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        msg = f"{file} is a damaged or truncated gzip file ({error}); fetch it again"
        raise InputError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{file} is not a text file in UTF-8"
        raise InputError(msg) from error
    except FileNotFoundError as error:
        msg = f"{file} does not exist (current directory: {Path.cwd()})"
        raise InputError(msg) from error
    except IsADirectoryError as error:
        msg = f"{file} is a directory, expected a text file"
        raise InputError(msg) from error
    except OSError as error:
        msg = f"{file} cannot be read: {error.strerror}"
        raise InputError(msg) from error
