"""A headless Chromium, driven through the pipe of its DevTools protocol."""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from fcntl import F_DUPFD, fcntl

BINARY = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--remote-debugging-pipe", "--window-size=1100,900"),
)
# The protocol reads from descriptor 3 and writes to 4.
START = """import os, sys
for number, end in enumerate(sys.argv[1:3], 3): os.dup2(int(end), number)
os.execv(sys.argv[3], sys.argv[3:])"""
SECONDS = 30.0  # until a page must show what is waited for


class Page:
    """A page of a browser of its own; `with Page(url, folder) as page`."""

    def __init__(self, url, folder, *flags):
        self._command = [BINARY, *FLAGS, f"--user-data-dir={folder}", *flags, "about:blank"]
        self._url, self._count, self._rest, self.errors = url, 0, b"", []

    def __enter__(self):
        theirs, self._out = os.pipe()
        self._in, their_out = os.pipe()
        ends = [str(fcntl(end, F_DUPFD, 10)) for end in (theirs, their_out)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, *ends, *self._command],
            pass_fds=map(int, ends),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (theirs, their_out, *ends):
            os.close(int(end))
        targets = self._call("Target.getTargets")["targetInfos"]
        target = next(target["targetId"] for target in targets if target["type"] == "page")
        session = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = session["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self._call(f"{domain}.enable")
        self._call("Page.navigate", url=self._url)
        self.wait_for("location.href != 'about:blank' && document.readyState == 'complete'")
        return self

    def __exit__(self, *_):
        self._session = None
        self._call("Browser.close")
        self._process.wait(SECONDS)
        os.close(self._out)
        os.close(self._in)

    _session = None

    def value(self, expression):
        """Return what a JavaScript expression gives, as plain JSON."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression):
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + SECONDS
        while not self.value(expression):
            assert time.monotonic() < end, f"{expression} did not come true"
            time.sleep(0.05)

    def dark(self):
        """Ask the page for its dark colours."""
        features = [{"name": "prefers-color-scheme", "value": "dark"}]
        self._call("Emulation.setEmulatedMedia", features=features)

    def resize(self, width, height):
        """Show the page in a window of this size, in pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)

    def screenshot(self, path):
        """Keep what the page looks like, as a PNG file."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def _call(self, method, **parameters):
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("method") == "Runtime.exceptionThrown" or (
                answer.get("method") == "Log.entryAdded"
                and answer["params"]["entry"]["level"] == "error"
            ):
                self.errors.append(answer["params"])
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def _message(self):
        while b"\0" not in self._rest:
            part = os.read(self._in, 1 << 16)
            assert part, "the browser has gone"
            self._rest += part
        text, self._rest = self._rest.split(b"\0", 1)
        return json.loads(text)
