"""A real browser without a window, driven over a pipe by its own protocol.

Chromium reads commands of its DevTools from file descriptor 3 and answers on 4: JSON
that ends with a zero byte. No port is opened, and no package is needed.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
DESKTOP, PHONE = (1280, 900), (390, 844)
_SECONDS = 30.0
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"),
    *("--disable-dev-shm-usage", "--no-first-run", "--disable-extensions"),
    "--host-resolver-rules=MAP * ~NOTFOUND",  # nothing outside can be reached
)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser, or skip the test where none is or none starts."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        started = Browser(path, folder)
        try:
            started.open_tab()
            yield started
        finally:
            started.stop()


class Browser:
    """One tab of one browser."""

    def __init__(self, path: str, folder: str) -> None:
        commands, ours = _pipe()
        answers, theirs = _pipe()
        flags = " ".join(f"'{flag}'" for flag in _FLAGS)
        self._process = subprocess.Popen(
            [
                *("bash", "-c"),
                f"exec '{path}' {flags} '--user-data-dir={folder}' "
                f"3<&{commands} 4>&{theirs}",
            ],
            pass_fds=(commands, theirs),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(theirs)
        self._ours, self._answers = ours, answers
        self._buffer, self._number = b"", 0
        self._session: str | None = None
        self.errors: list[str] = []
        self.requests: list[str] = []

    def open_tab(self) -> None:
        try:
            made = self.send("Target.createTarget", url="about:blank")
        except (BrokenPipeError, EOFError, TimeoutError) as error:
            pytest.skip(f"the browser does not start: {error!r}")
        to = {"targetId": made["targetId"], "flatten": True}
        self._session = self.send("Target.attachToTarget", **to)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def open(self, url: str, size: tuple[int, int]) -> None:
        """Show a page at a size, as a phone does when it is narrow, and wait for it."""
        self.errors.clear()
        self.requests.clear()
        is_phone = size[0] < 600
        self.send(
            "Emulation.setDeviceMetricsOverride",
            **{"width": size[0], "height": size[1], "mobile": is_phone},
            deviceScaleFactor=1,
        )
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=url)
        self.wait(
            "document.readyState === 'complete' && location.href !== 'about:blank'"
        )
        self.run("new Promise((done) => requestAnimationFrame(() => done(0)))")

    def wait(self, condition: str) -> None:
        """Wait until an expression of JavaScript is true."""
        until = time.monotonic() + _SECONDS
        while not self.run(condition):
            if time.monotonic() > until:
                msg = f"never true: {condition}"
                raise TimeoutError(msg)

    def run(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript."""
        found = self.send(
            "Runtime.evaluate",
            **{"expression": expression, "returnByValue": True, "awaitPromise": True},
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def middle(self, selector: str) -> tuple[float, float]:
        """Return where the middle of an element is, once it is in view."""
        box = self.run(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)}); "
            "it.scrollIntoView({block: 'center', behavior: 'instant'}); "
            "const b = it.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        return float(box[0]), float(box[1])

    def click(self, selector: str) -> None:
        """Press and release the mouse over an element."""
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, clickCount=1)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Send what a mouse would."""
        is_held = kind != "mouseReleased" and kind != "mouseWheel"
        given = {"button": "left", "buttons": int(is_held), **more}
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **given)

    def drag(self, selector: str, by: float) -> None:
        """Move the mouse sideways over an element while it is held."""
        x, y = self.middle(selector)
        self.mouse("mousePressed", x, y, clickCount=1)
        self.mouse("mouseMoved", x + by, y)
        self.mouse("mouseReleased", x + by, y, clickCount=1)

    def pinch(self, selector: str, spread: float) -> None:
        """Put two fingers on an element and move them apart."""
        x, y = self.middle(selector)
        for kind, half in (("touchStart", 20.0), ("touchMove", 20.0 * spread)):
            points = [
                {"x": x - half, "y": y, "id": 0},
                {"x": x + half, "y": y, "id": 1},
            ]
            self.send("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def picture(self, file: Path) -> None:
        """Keep what is seen."""
        found = self.send("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(found["data"]))

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its answer; note what else is told meanwhile."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._ours, json.dumps({**message, "params": parameters}).encode())
        os.write(self._ours, b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self._note(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._answers], [], [], _SECONDS)[0]:
                raise TimeoutError
            part = os.read(self._answers, 1 << 20)
            if not part:
                raise EOFError
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(text))

    def _note(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.errors.append(str(told["exceptionDetails"]))
        elif event["method"] == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(str(told["entry"]))
        elif event["method"] == "Runtime.consoleAPICalled" and told["type"] == "error":
            self.errors.append(str(told["args"]))
        elif event["method"] == "Network.requestWillBeSent":
            url = str(told["request"]["url"])
            self.requests += [url] * (not url.startswith("data:"))

    def stop(self) -> None:
        """End the browser, which needs no invitation."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._ours)
        os.close(self._answers)


def _pipe() -> tuple[int, int]:
    """Return both ends of a pipe, numbered so that 3 and 4 stay free."""
    high = []
    for end in os.pipe():
        high.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
    return high[0], high[1]
