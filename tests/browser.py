"""A real browser without a window: Debian's chromium, which a test drives over a pipe (the DevTools protocol)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-extensions", "--disable-background-networking", "--hide-scrollbars",
            "--force-color-profile=srgb", "--remote-debugging-pipe")  # fmt: skip


class Browser:
    """One tab. ``prefix``: the command that runs the browser, such as nsenter(1)."""

    def __init__(self, profile: Path, prefix: Sequence[str] = ()) -> None:
        assert shutil.which("chromium"), "NOT TESTED: needs chromium of Debian"
        theirs_read, self._write = os.pipe()
        self._read, theirs_write = os.pipe()
        # The browser reads from descriptor 3 and writes to descriptor 4.
        shell = f'exec 3<&{theirs_read} 4>&{theirs_write}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *prefix, *CHROMIUM, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(theirs_read, theirs_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, env={**os.environ, "HOME": str(profile), "XDG_CONFIG_HOME": str(profile)},
        )  # fmt: skip
        os.close(theirs_read)
        os.close(theirs_write)
        self._pending, self._last, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        [tab] = [one for one in self.do("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        self._session = self.do("Target.attachToTarget", targetId=tab["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._write)  # The browser ends when the pipe does.
        self._process.wait()
        os.close(self._read)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            part = os.read(self._read, 1 << 20)
            assert part, "the browser ended"
            self._pending += part
        first, _, self._pending = self._pending.partition(b"\0")
        found: dict[str, Any] = json.loads(first)
        return found

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Asks the browser something, and returns its answer. Events that come meanwhile are kept."""
        self._last += 1
        asked: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            asked["sessionId"] = self._session
        os.write(self._write, json.dumps(asked).encode() + b"\0")
        while True:
            said = self._message()
            if said.get("id") == self._last:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result
            self.events.append(said)

    def open(self, address: str) -> None:
        """Shows a page, and waits until it is loaded."""
        self.events.clear()
        failed = self.do("Page.navigate", url=address).get("errorText")
        assert not failed, failed
        while not any(one["method"] == "Page.loadEventFired" for one in self.events):
            self.events.append(self._message())

    def eval(self, expression: str) -> Any:
        """The value of an expression in the page, which may be a promise. The page itself may allow no script."""
        done = self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def show(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Gives the page a size and the light or the dark theme."""
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.do("Emulation.setEmulatedMedia", features=features)

    def press(self, key: str, code: int) -> None:
        """Presses a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.do("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def picture(self, file: Path, *, whole: bool = True) -> None:
        """Writes what the page looks like as PNG: the whole page, or what its window shows."""
        image = self.do("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(image))

    def complaints(self) -> list[str]:
        """What the browser's log says: refused scripts and styles, errors, requests that failed."""
        logged = [one["params"]["entry"]["text"] for one in self.events if one["method"] == "Log.entryAdded"]
        return logged + [str(one["params"]) for one in self.events if one["method"] == "Runtime.exceptionThrown"]
