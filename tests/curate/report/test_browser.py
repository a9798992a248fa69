"""The page in a real browser: what a researcher will see, not what we believe we wrote."""

import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from curate.report.html import render

pytestmark = pytest.mark.slow

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # nothing here may leave the machine
)
LIGHT, DARK = 1, 0


@pytest.fixture(scope="module")
def chromium():
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser found (looked for {', '.join(NAMES)}): install Debian's chromium")
    return found


class Browser:
    def __init__(self, binary, folder):
        self.binary, self.folder, self.opened = binary, folder, 0

    def open(self, page, *arguments):
        """Open a page; return its document, its console lines and the addresses it asked for."""
        self.opened += 1
        profile = self.folder / f"profile-{self.opened}"
        log = self.folder / f"net-{self.opened}.json"
        command = [self.binary, *FLAGS, f"--user-data-dir={profile}", f"--log-net-log={log}"]
        done = subprocess.run(
            [*command, *arguments, page.as_uri()],
            capture_output=True,
            check=True,
            timeout=120,
        )
        console = [
            line
            for line in done.stderr.decode("utf-8", "replace").splitlines()
            if "CONSOLE" in line
        ]
        return done.stdout.decode("utf-8"), console, asked_for(log)

    def picture(self, page, name, size, scheme):
        """Write a screenshot and return its path."""
        shot = self.folder / f"{name}.png"
        self.open(
            page,
            f"--screenshot={shot}",
            f"--window-size={size[0]},{size[1]}",
            f"--blink-settings=preferredColorScheme={scheme}",
        )
        return shot


def asked_for(log):
    """Return what pages asked for; the browser's own requests have no origin."""
    events = json.loads(log.read_text())["events"]
    requests = [event.get("params") or {} for event in events]
    return [
        request["url"]
        for request in requests
        if "method" in request and request.get("initiator") not in (None, "not an origin")
    ]


@pytest.fixture
def browser(chromium, tmp_path):
    return Browser(chromium, tmp_path)


def written(folder, data, name="report.html"):
    page = folder / name
    page.write_text(render(data), encoding="utf-8")
    return page


@pytest.mark.parametrize("which", ["planted", "unplanted", "labels_only"])
def test_pages_load_silently_and_ask_for_nothing(request, browser, tmp_path, which):
    page = written(tmp_path, request.getfixturevalue(which))
    document, console, asked = browser.open(page, "--dump-dom")
    assert console == []
    assert asked == []
    assert document.count("<section") == page.read_text().count("<section")
    assert document.rstrip().endswith("</html>")


def test_a_page_that_does_ask_would_be_noticed(browser, tmp_path):
    page = tmp_path / "asking.html"
    page.write_text('<img src="http://report.invalid/x.png"><script>console.error("x")</script>')
    _, console, asked = browser.open(page, "--dump-dom")
    assert len(console) == 1
    assert asked == ["http://report.invalid/x.png"]


def test_an_injected_script_is_blocked(browser, tmp_path, planted):
    page = written(tmp_path, planted)
    page.write_text(
        page.read_text().replace("</main>", "<script>document.title='x'</script></main>")
    )
    document, console, _ = browser.open(page, "--dump-dom")
    assert any("Content Security Policy" in line for line in console)
    assert "<title>x</title>" not in document


def test_schemes_and_widths_look_different(browser, tmp_path, planted):
    page = written(tmp_path, planted)
    frame = tmp_path / "frame.html"  # a window cannot be narrower than 500 px, a frame can
    style = "border:0;width:420px;height:3000px"
    frame.write_text(f'<body style="margin:0"><iframe src="{page.name}" style="{style}"></iframe>')
    shots = [
        browser.picture(target, name, size, scheme)
        for name, target, size, scheme in (
            ("wide-light", page, (1200, 3000), LIGHT),
            ("wide-dark", page, (1200, 3000), DARK),
            ("narrow-light", frame, (500, 3000), LIGHT),
            ("narrow-dark", frame, (500, 3000), DARK),
        )
    ]
    assert [png_size(shot) for shot in shots] == [(1200, 3000)] * 2 + [(500, 3000)] * 2
    assert len({shot.read_bytes() for shot in shots}) == 4


@pytest.mark.parametrize("width", [400, 420, 768, 1200])
def test_no_page_is_wider_than_its_window(browser, tmp_path, planted, width):
    written(tmp_path, planted)
    probe = tmp_path / "probe.html"
    probe.write_text(
        f'<iframe src="report.html" style="border:0;width:{width}px;height:900px" onload="'
        "const d = this.contentDocument, r = d.documentElement;"
        "const shown = [...d.querySelectorAll('svg.chart')].filter(s => s.checkVisibility());"
        "document.title = [r.scrollWidth, r.clientWidth, shown.length,"
        " shown.every(s => s.getBoundingClientRect().right <= r.clientWidth)].join(' ')"
        '"></iframe>'
    )
    document, _, _ = browser.open(
        probe, "--dump-dom", "--allow-file-access-from-files", "--window-size=1400,1000"
    )
    title = document.split("<title>")[1].split("</title>")[0]
    assert title == f"{width} {width} 5 true"


def test_the_page_prints(browser, tmp_path, planted):
    printed = tmp_path / "report.pdf"
    browser.open(written(tmp_path, planted), f"--print-to-pdf={printed}")
    assert printed.read_bytes().startswith(b"%PDF-")


def png_size(path: Path):
    return struct.unpack(">II", path.read_bytes()[16:24])
