# SPDX-License-Identifier: Apache-2.0
"""The page of `run --control` in a headless Chromium: what people do with it, by keyboard and by hand, and that the
browser has nothing to complain about. Exit status 77, with a line that says so, where there is no Chromium.

    page.py PROGRAM [FOLDER]        screenshots go to FOLDER
"""
import atexit
import json
import os
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import browser as chromium  # noqa: E402

PROGRAM, SHOTS = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
TOKEN = "a-token-of-this-test"
failures = 0
FOLDER = tempfile.TemporaryDirectory(prefix="l2d-page-")

# Of the picture, at 16x16: its mean color, and all of its colors.
PIXELS = """(() => { const c = document.createElement('canvas'); c.width = c.height = 16; const x = c.getContext('2d');
x.drawImage(document.getElementById('picture'), 0, 0, 16, 16); return [...x.getImageData(0, 0, 16, 16).data]; })()"""
SOURCE = """fetch('/preview.jpg?view=source').then((a) => a.blob()).then(createImageBitmap).then((source) => {
const c = document.createElement('canvas'); c.width = c.height = 16; const x = c.getContext('2d');
x.drawImage(source, 0, 0, 16, 16); return [...x.getImageData(0, 0, 16, 16).data]; })"""
CHART = "document.getElementById('{}-chart').toDataURL()"


def check(what, good, seen=""):
    global failures
    print(f"ok: {what}" if good else f"FAIL: {what}: {seen}", flush=True)
    failures += not good


def start(arguments, token=None):
    log = tempfile.NamedTemporaryFile("r", prefix="l2d-page-")
    environment = {k: v for k, v in os.environ.items() if k != "LIVE2DIFF_TOKEN"}
    if token:
        environment["LIVE2DIFF_TOKEN"] = token
    process = subprocess.Popen([os.path.abspath(PROGRAM), "run", *arguments, "-o", "null", "--control", "127.0.0.1:0"],
                               env=environment, stderr=open(log.name, "w"), cwd=FOLDER.name)
    atexit.register(process.kill)
    until = time.monotonic() + 120
    while time.monotonic() < until:
        line = re.search(r"control: (http://\S+/)", open(log.name).read())
        if line:
            return process, line[1]
        time.sleep(0.1)
    sys.exit(f"FAIL: no server: {open(log.name).read()}")


def difference(a, b):
    return sum(abs(x - y) for x, y in zip(a, b)) / len(a)


def test_model(page):
    run, url = start(["-f", "lavfi", "-i", "smptebars=size=128x64:rate=25,realtime", "--size", "128x64", "--seed", "1",
                      "-p", "a van gogh painting"])
    page.open(url)
    prompt = "document.getElementById('prompt').value"
    page.wait(lambda: page.run(f"document.getElementById('empty').hidden && {prompt}") == "a van gogh painting",
              "the first picture and the prompt")
    pressed = "[...document.querySelectorAll('#presets [aria-pressed=true]')].map((b) => b.textContent)"
    check("the preset of the prompt is marked", page.run(pressed) == ["a van gogh painting"], page.run(pressed))

    charts = {name: page.run(CHART.format(name)) for name in ("fps", "latency", "fates")}
    before = page.run(PIXELS)
    time.sleep(1.5)
    again = page.run(PIXELS)
    page.key("/")
    check("a key leads to the prompt", page.run("document.activeElement.id") == "prompt")
    page.run("document.getElementById('prompt').select()")
    page.type("an ink drawing")
    page.key("Enter", 13)
    said = "document.getElementById('said').textContent"
    page.wait(lambda: page.run(said).startswith("In effect from frame "), "the prompt's receipt")
    told = page.run("fetch('/api/state').then((a) => a.json()).then((s) => s.params.prompt)")
    check("the run has the prompt", told == "an ink drawing", told)
    # The source stands still, so that a picture differs from the next by the noise alone.
    page.wait(lambda: difference(page.run(PIXELS), again) > 2 * difference(before, again) + 8, "another picture")
    check("the picture is another one", True)
    for name, was in charts.items():
        check(f"the chart of {name} moves", page.run(CHART.format(name)) != was)

    page.run("[...document.querySelectorAll('#presets button')].find((b) => b.textContent === 'cold colors').click()")
    page.wait(lambda: page.run(prompt) == "an ink drawing, cold colors", "a preset that joins the prompt")
    page.run("[...document.querySelectorAll('#presets button')].find((b) => b.textContent === 'a cartoon').click()")
    page.wait(lambda: page.run(prompt) == "a cartoon, cold colors", "a style in place of the other")
    check("presets come and go", page.run(pressed) == ["a cartoon", "cold colors"], page.run(pressed))
    recent = page.run("[...document.querySelectorAll('#recent button')].map((b) => b.textContent)")
    check("history", recent == ["a cartoon, cold colors", "an ink drawing, cold colors", "an ink drawing"], recent)

    page.run("document.activeElement.blur()")
    page.key("c", 67)
    check("a key compares", page.run("document.getElementById('compare').getAttribute('aria-pressed')") == "true")
    page.run("document.getElementById('wipe').focus()")
    for key, code, where in (("Home", 36, "0"), ("ArrowRight", 39, "0.5"), ("End", 35, "100")):
        page.key(key, code)
        check(f"the wipe goes by keyboard: {key}", page.run("document.getElementById('wipe').value") == where)
    source = page.run(SOURCE)
    check("the result is not the source", difference(before, source) > 8, difference(before, source))
    page.wait(lambda: difference(page.run(PIXELS), source) < 2, "the source over the result")
    check("the source is shown", True)

    # What a page must not take for its own words.
    page.run("document.getElementById('prompt').focus(); document.getElementById('prompt').select()")
    page.type("<img src=x onerror=document.title='broken'>")
    page.key("Enter", 13)
    first = "document.querySelector('#recent button').textContent"
    page.wait(lambda: page.run(first).startswith("<img"), "that prompt")
    check("a prompt is text", page.run("document.title") == "live2diff" and
          not page.run("document.querySelector('#recent img')"))
    test_params(page)
    test_outputs(page)
    complaints = list(page.complaints)
    page.run("document.getElementById('prompt').focus()")
    page.type("(red:9)")        # one more request, which the run refuses
    page.key("Enter", 13)
    page.wait(lambda: page.run("document.getElementById('said').hasAttribute('data-bad')"), "a refusal")
    check("a refusal is said", page.run(said).startswith("prompt: "), page.run(said))
    add_output(page, "../b.mkv")
    told = "document.querySelector('#add-output p').textContent"
    page.wait(lambda: page.run(told).startswith("url: '../b.mkv' cannot be written"), "a refused output")
    page.run("document.querySelector('#outputs .remove').click()")
    page.wait(lambda: "only output that runs" in page.run(told), "the last one stays")

    sizes = [("desktop", 1360, 860), ("phone", 390, 844), ("narrow", 320, 600)]
    for name, width, height in sizes:
        page.size(width, height, 2 if width < 600 else 1, width < 600)
        time.sleep(0.5)
        wide = page.run("document.documentElement.scrollWidth")
        check(f"nothing sticks out: {name}", wide <= width, wide)
        if SHOTS:
            page.screenshot(os.path.join(SHOTS, f"{name}.png"), True)
    page.size(1360, 860)
    run.terminate()
    run.wait(60)
    page.wait(lambda: page.run("document.getElementById('pulse').dataset.state") == "gone", "the run's end to show")
    check("the page sees the end", True)
    check("the browser had nothing to complain about", not complaints, complaints)


def test_params(page):
    """Every kind of control changes what it shows."""
    def told(name):
        return page.run(f"fetch('/api/state').then((a) => a.json()).then((s) => s.params.{name})")

    page.run("document.getElementById('param-fade').focus()")
    for _ in range(3):
        page.key("ArrowRight", 39)
    page.wait(lambda: told("fade") == 3, "a slider by keyboard")
    page.run("[...document.querySelectorAll('#param-show button')].find((b) => b.textContent === 'source').click()")
    page.wait(lambda: told("show") == "source", "a choice")
    page.key("ArrowLeft", 37)
    page.wait(lambda: told("show") == "drawn", "a choice by keyboard")
    page.run("document.getElementById('param-seed').focus(); document.getElementById('param-seed').select()")
    page.type("42")
    page.key("Enter", 13)
    page.wait(lambda: told("seed") == 42, "a number that is typed")
    page.run("document.querySelector('#param-seed + button').click()")
    page.wait(lambda: told("seed") != 42, "a random one")
    page.run("document.getElementById('param-rewarm').click()")
    page.wait(lambda: page.run("fetch('/api/state').then((a) => a.json()).then((s) => s.receipts.some("
                               "(r) => r.param === 'rewarm' && r.state === 'done'))"), "an action")
    page.run("fetch('/api/params', { method: 'PATCH', body: JSON.stringify({ easing: 'smooth', fade: 9 }) })")
    easing = "document.querySelector('#param-easing [aria-checked=true]').textContent"
    page.wait(lambda: page.run(easing) == "smooth" and page.run("document.getElementById('param-fade').value") == "9",
              "what another has changed")
    check("every kind of control works", page.run("document.querySelectorAll('.param-bad:not([hidden])').length") == 0)


def add_output(page, url):
    page.run("document.querySelector('#add-output input').focus()")
    page.run("document.querySelector('#add-output input').select()")
    page.type(url)
    page.key("Enter", 13)


def test_outputs(page):
    """A recording begins and ends by a key and by the button; another output comes and goes."""
    names = "[...document.querySelectorAll('#outputs .name')].map((name) => name.textContent)"
    pressed = "document.getElementById('record').getAttribute('aria-pressed')"
    page.run("document.activeElement.blur()")
    page.key("r", 82)
    page.wait(lambda: page.run(pressed) == "true" and len(page.run(names)) == 2, "a recording by a key")
    add_output(page, "b.mkv")
    page.wait(lambda: "b.mkv" in page.run(names), "an output by the box")
    page.wait(lambda: page.run("document.querySelectorAll('#outputs .up').length") == 3, "all three running")
    time.sleep(2)
    if SHOTS:
        page.screenshot(os.path.join(SHOTS, "outputs.png"), True)
    page.run("document.getElementById('record').click()")
    page.wait(lambda: page.run(pressed) == "false", "the recording's end by the button")
    page.run("document.querySelector('#outputs .remove[title*=b\\\\.mkv]').click()")
    page.wait(lambda: page.run(names) == ["null"], "both to leave")
    files = sorted(name for name in os.listdir(FOLDER.name) if name.endswith(".mkv"))
    check("both files are there", len(files) == 2 and files[0] == "b.mkv" and
          re.fullmatch(r"live2diff-\d{8}-\d{6}\.mkv", files[1]), files)


def test_token(page):
    run, url = start(["-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25,realtime", "--size", "64x64", "--passthrough"],
                     TOKEN)
    page.open(url)
    page.wait(lambda: page.run("document.getElementById('gate').open"), "the question for the token")
    page.run("document.getElementById('token').focus()")
    page.type("wrong-wrong")
    page.key("Enter", 13)
    page.wait(lambda: page.run("document.getElementById('gate-said').textContent"), "a refusal")
    page.run("document.getElementById('token').select()")
    page.type(TOKEN)
    page.key("Enter", 13)
    page.wait(lambda: page.run("document.getElementById('empty').hidden"), "the picture behind the token")
    check("a token lets the page in", not page.run("document.getElementById('gate').open"))
    check("without a model there is nothing to say", page.run("document.getElementById('composer').hidden"))
    page.run("sessionStorage.clear()")
    page.complaints.clear()     # the browser notes each 401
    page.open(f"{url}?token={TOKEN}")
    page.wait(lambda: page.run("document.getElementById('empty').hidden"), "the picture by the address's token")
    check("the address keeps no token", page.run("location.search") == "", page.run("location.href"))
    check("no complaints with a token", not page.complaints, page.complaints)
    run.terminate()
    run.wait(60)


if not chromium.find():
    print("SKIPPED: the page is not tested: no Chromium here (tools/setup --ci installs it)")
    sys.exit(77)
tab = chromium.Browser()
try:
    test_model(tab)
    test_token(tab)
except (TimeoutError, RuntimeError, ConnectionError) as error:
    check("the page", False, f"{error}; {json.dumps(tab.complaints)}")
finally:
    tab.close()
print(f"{failures} failures")
sys.exit(failures != 0)
