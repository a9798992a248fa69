"""The page in a real browser: what a researcher will see, not what we believe we wrote."""

import html
import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from curate.report import words
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

    def open(self, page, *arguments, fragment=""):
        """Open a page; return its document, its console lines and the addresses it asked for."""
        self.opened += 1
        profile = self.folder / f"profile-{self.opened}"
        log = self.folder / f"net-{self.opened}.json"
        command = [self.binary, *FLAGS, f"--user-data-dir={profile}", f"--log-net-log={log}"]
        done = subprocess.run(
            [*command, *arguments, f"{page.as_uri()}{fragment}"],
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


READ = """
const w = frame.contentWindow, d = frame.contentDocument, said = {};
const id = (name) => d.getElementById(name);
const svg = d.querySelector('#series svg.wide');
const box = () => svg.getBoundingClientRect();
const at = (share) => [box().left + box().width * share, box().top + box().height * 0.2];
const send = (kind, [clientX, clientY], type = w.PointerEvent) => {
  const options = { clientX, clientY, bubbles: true, cancelable: true, button: 0 };
  d.elementFromPoint(clientX, clientY).dispatchEvent(new type(kind, options));
};
const drag = (a, b) => {
  send('pointerdown', at(a)); send('pointermove', at(b)); send('pointerup', at(b));
  send('click', at(b), w.MouseEvent);
};
const range = () => [id('from').value, id('to').value].map(Number);
"""


def asked_of(browser, page, code, frame=""):
    """Return what code leaves in `said`, run beside the page in a frame 1200 pixels wide."""
    probe = page.with_name(f"probe-{page.name}")
    body = f"{READ}try {{ {code} }} catch (error) {{ said.error = error.stack; }}"
    probe.write_text(
        f'<iframe src="{page.name}" {frame} style="border:0;width:1200px;height:2600px"></iframe>'
        "<script>"
        "const frame = document.querySelector('iframe');"
        f"frame.onload = () => {{ {body} document.title = JSON.stringify(said); }};</script>"
    )
    document, console, asked = browser.open(
        probe, "--dump-dom", "--allow-file-access-from-files", "--window-size=1400,2800"
    )
    # A sandboxed frame's own script is blocked, which is what it is there for.
    assert [line for line in console if "sandboxed" not in line] == asked == []
    said = json.loads(html.unescape(document.split("<title>")[1].split("</title>")[0]))
    assert "error" not in said, said
    return said


def test_hovering_tells_of_the_window_beneath(browser, tmp_path, planted):
    said = asked_of(
        browser,
        written(tmp_path, planted),
        "said.before = id('tip').hidden; send('pointermove', at(0.5));"
        "said.after = id('tip').hidden; said.tip = [...id('tip').children].map(p => p.textContent);"
        "said.titles = d.querySelectorAll('.timeline .zoom title').length;"
        "send('pointermove', [2, 2]); said.left = id('tip').hidden;",
    )
    assert (said["before"], said["after"], said["left"]) == (True, False, True)
    name, label, effect, q, score, loss = said["tip"]
    (window,) = [each for each in planted.windows if each.name == name]
    on = window.on(planted.primary_task)
    assert label.startswith(f"{planted.primary_task}: {on.label}")
    assert words.on_scale(on.strength, on.lo, on.hi) in effect
    assert q == f"q {words.probability(on.q)}"
    series = planted.series[0]
    index = series.steps.index(window.end_step)
    assert words.interval(series.lo[index], series.hi[index]) in score
    assert loss.startswith("loss 2.")
    assert said["titles"] == 0, "the browser's own tooltips do not come on top"


def test_dragging_zooms_and_buttons_go_on_from_there(browser, tmp_path, planted):
    said = asked_of(
        browser,
        written(tmp_path, planted),
        "said.whole = range(); drag(0.4, 0.6); said.dragged = range();"
        "said.open = id('window').open; said.count = id('zoomed').textContent;"
        "said.scale = d.querySelector('#series .narrow .zoom').transform.baseVal[0].matrix.a;"
        "said.ticks = [...svg.querySelectorAll('.xaxis .tick')].map(t => t.textContent);"
        "const press = (name) => d.querySelector(`[data-zoom=${name}]`).click();"
        "press('in'); said.in = range(); press('out'); said.out = range();"
        "id('from').value = 500; id('to').value = 900;"
        "id('to').dispatchEvent(new w.Event('change')); said.typed = range();"
        "press('whole'); said.again = range();",
    )
    first, end = planted.windows[0].first_step, planted.windows[-1].end_step
    assert said["whole"] == said["again"] == [first, end]
    lo, hi = said["dragged"]
    assert first < lo < hi < end and abs((hi - lo) / (end - first) - 0.2 * 1060 / 992) < 0.02
    assert not said["open"], "the end of a drag is no click"
    assert said["scale"] == pytest.approx((end - first) / (hi - lo), rel=0.01), "in every drawing"
    inside = sum(w.end_step > lo and w.first_step < hi for w in planted.windows)
    assert abs(int(said["count"].split()[0]) - inside) <= 1
    assert all(lo - 1 <= int(tick) <= hi + 1 for tick in said["ticks"]) and len(said["ticks"]) > 3
    assert said["in"][1] - said["in"][0] == pytest.approx((hi - lo) / 2, abs=1)
    assert said["out"] == [pytest.approx(edge, abs=1) for edge in (lo, hi)]
    assert said["typed"] == [500, 900]


def test_a_window_opens_what_it_held(browser, tmp_path, planted):
    said = asked_of(
        browser,
        written(tmp_path, planted),
        "send('click', at(0.5), w.MouseEvent); said.open = id('window').open;"
        "said.name = id('window-name').textContent; said.hash = w.location.hash;"
        "said.facts = id('window-facts').textContent;"
        "said.rows = [...id('window-tables').querySelectorAll('tr')].map(r =>"
        " [...r.children].map(c => c.textContent));"
        "d.querySelector('[data-go=\"1\"]').click(); said.next = id('window-name').textContent;"
        "id('window').close(); d.querySelector('#windows a').click();"
        "said.first = id('window-name').textContent;",
    )
    assert said["open"]
    index = [window.name for window in planted.windows].index(said["name"])
    window = planted.windows[index]
    assert said["hash"] == f"#w{index}"
    assert f"modehop what demo --steps {window.first_step}:{window.end_step}" in said["facts"]
    assert [row[0] for row in said["rows"]] == [
        *("Task", *(label.task for label in window.labels)),
        *("Source", "web", "math"),
    ]
    of_window, of_all = (
        f"{100 * share:.1f} %"
        for share in (
            window.held[0] / sum(window.held),
            sum(each.held[0] for each in planted.windows)
            / sum(sum(each.held) for each in planted.windows),
        )
    )
    assert said["rows"][-2] == ["web", str(window.held[0]), of_window, of_all]
    assert said["next"] == planted.windows[index + 1].name
    assert said["first"] == planted.windows[0].name


def test_a_link_to_a_window_opens_it(browser, tmp_path, planted):
    page = written(tmp_path, planted)
    document, console, _ = browser.open(page, "--dump-dom", fragment="#w7")
    assert console == []
    assert f'id="window-name">{planted.windows[7].name}<' in document


def test_without_scripts_the_page_is_whole_and_offers_no_tools(browser, tmp_path, planted):
    said = asked_of(
        browser,
        written(tmp_path, planted),
        "said.tools = d.querySelector('#series .tools').checkVisibility();"
        "said.dialog = id('window').checkVisibility(); said.tip = id('tip').checkVisibility();"
        "said.held = d.querySelectorAll('#held tr[id]').length;"
        "said.told = svg.querySelectorAll('.window').length;",
        frame='sandbox="allow-same-origin"',
    )
    assert not (said["tools"] or said["dialog"] or said["tip"])
    assert said["held"] == 40 and said["told"] == 80


def test_a_run_of_olmo_3_32b_s_length_opens_and_answers(browser, tmp_path, long_run):
    page = written(tmp_path, long_run, "long.html")
    said = asked_of(
        browser,
        page,
        "const rows = d.querySelectorAll('svg.wide[aria-labelledby^=strip] [data-task]');"
        "const row = rows[20].getBoundingClientRect();"
        "send('pointermove', [row.left + row.width * 0.7, row.top + row.height / 2]);"
        " said.tip = [...id('tip').children].map(p => p.textContent);"
        "drag(0.4, 0.45); said.range = range(); said.count = id('zoomed').textContent;"
        "d.querySelectorAll('details')[2].open = true;"
        "send('click', at(0.5), w.MouseEvent); said.open = id('window').open;"
        "said.name = id('window-name').textContent;"
        "said.rows = id('window-tables').querySelectorAll('tbody tr, tr').length;"
        "said.wide = d.documentElement.scrollWidth;",
    )
    name, label = said["tip"][:2]
    (window,) = [each for each in long_run.windows if each.name == name]
    task = label.partition(":")[0]
    assert task in long_run.tasks and window.on(task).label in label
    lo, hi = said["range"]
    assert 0 < lo < hi < 679_000 and hi - lo < 60_000
    assert said["open"] and said["name"] in {each.name for each in long_run.windows}
    assert said["rows"] == 1 + 53 + 1 + 12
    assert said["wide"] == 1200


def test_many_tasks_fit_a_narrow_window(browser, tmp_path, shorter_run):
    said = asked_of(
        browser,
        written(tmp_path, shorter_run),
        "w.frameElement.style.width = '400px';"
        "d.querySelectorAll('details').forEach((each) => (each.open = true));"
        "const shown = [...d.querySelectorAll('svg.chart')].filter(s => s.checkVisibility());"
        "said.charts = shown.length; said.wide = d.documentElement.scrollWidth;"
        "said.inside = shown.every(s => s.getBoundingClientRect().right <= 400);",
    )
    assert said == {"charts": 2 + 5, "wide": 400, "inside": True}


def test_the_page_prints(browser, tmp_path, planted):
    printed = tmp_path / "report.pdf"
    browser.open(written(tmp_path, planted), f"--print-to-pdf={printed}")
    assert printed.read_bytes().startswith(b"%PDF-")


def png_size(path: Path):
    return struct.unpack(">II", path.read_bytes()[16:24])
