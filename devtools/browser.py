"""A browser for the tests of the editor: found on this machine, or installed where that needs nobody's leave."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from .hosts import run_quietly
from .report import step

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
# Where those systems keep a browser that is not on PATH.
PLACES = {
    "darwin": ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",),
    "win32": (
        r"C:\Program Files\Google\Chrome\Application\chrome.exe",
        r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
    ),
}
NO_BROWSER = (
    "The editor is not tested: no Chromium or Chrome was found on PATH. "
    "Install one (Debian: `apt-get install chromium`), or set AAI_BROWSER to its path."
)


def find_browser() -> str | None:
    """Path of a Chromium or Chrome: `AAI_BROWSER` if set, else what PATH or the system's usual place has."""
    if override := os.environ.get("AAI_BROWSER"):
        return shutil.which(override)
    found = (shutil.which(name) for name in NAMES)
    usual = (place for place in PLACES.get(sys.platform, ()) if Path(place).is_file())
    return next(filter(None, [*found, *usual]), None)


def ensure_browser() -> str | None:
    """The browser of this machine. Where there is none, Debian's is installed if this process may do that (root)."""
    if found := find_browser():
        return found
    if os.environ.get("AAI_BROWSER"):
        return None
    return find_browser() if install_from_debian("chromium") else None


def install_from_debian(package: str) -> bool:
    """Install one of Debian's packages if this process may do that (root); False where it may not."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    with step(f"installing {package}"):
        run_quietly(["apt-get", "update", "-q"], "Reading Debian's package list")
        install = ["apt-get", "install", "-qy", "--no-install-recommends", package]
        run_quietly(install, f"Installing {package}", env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    return True
