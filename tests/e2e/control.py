# SPDX-License-Identifier: Apache-2.0
"""A run with --control, from outside: what it says, what it lets itself be told, and that neither wrong
requests nor slow clients do anything to its frames.

    control.py PROGRAM [TEST]...
"""
import atexit
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

PROGRAM = sys.argv[1]
TOKEN = "a-token-of-this-test"
ENDLESS = ["-o", "null", "--size", "64x64", "-f", "lavfi"]
# A source that stands still, so that a picture differs from the next by the noise alone.
MODEL_RUN = ENDLESS + ["-i", "smptebars=size=64x64:rate=25,realtime", "--seed", "1", "-p", "a van gogh painting"]
PLAIN_RUN = ENDLESS + ["-i", "testsrc2=size=64x64:rate=25,realtime", "--passthrough"]
failures = 0


def check(what, good, seen=""):
    global failures
    print(f"ok: {what}" if good else f"FAIL: {what}: {seen}", flush=True)
    failures += not good


def wait(ready, what, seconds=120):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = ready()
        if value:
            return value
        time.sleep(0.1)
    check(what, False, f"not within {seconds} s")
    return None


class Run:
    """`live2diff run --control`, on a free port."""

    def __init__(self, arguments, address="127.0.0.1:0", token=None, folder=None):
        self.log = tempfile.NamedTemporaryFile("r", prefix="l2d-control-")
        environment = {k: v for k, v in os.environ.items() if k != "LIVE2DIFF_TOKEN"}
        if token:
            environment["LIVE2DIFF_TOKEN"] = token
        self.process = subprocess.Popen([os.path.abspath(PROGRAM), "run", *arguments, "--control", address],
                                        env=environment, stderr=open(self.log.name, "w"), stdout=subprocess.DEVNULL,
                                        cwd=folder)
        atexit.register(self.process.kill)
        line = wait(lambda: re.search(r"control: http://(\S+):(\d+)/", open(self.log.name).read()) or
                    self.process.poll() is not None, "the server starts")
        if not isinstance(line, re.Match):
            sys.exit(f"FAIL: {open(self.log.name).read()}")
        self.port = int(line.group(2))
        self.token = token

    def ask(self, method, path, body=None, headers=None, timeout=30, host=None):
        """Status, headers and body."""
        connection = http.client.HTTPConnection(host or "127.0.0.1", self.port, timeout=timeout)
        headers = dict(headers or {})
        if self.token and "Authorization" not in headers:
            headers["Authorization"] = f"Bearer {self.token}"
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, answer.headers, data

    def json(self, method, path, body=None, **more):
        status, _, data = self.ask(method, path, body, **more)
        return status, json.loads(data)

    def state(self):
        return self.json("GET", "/api/state")[1]

    def frames_out(self):
        return self.state()["frames"]["out"]

    def ctl(self, *arguments):
        environment = {k: v for k, v in os.environ.items() if k != "LIVE2DIFF_TOKEN"}
        if self.token:
            environment["LIVE2DIFF_TOKEN"] = self.token
        return subprocess.run([PROGRAM, "ctl", "-a", f":{self.port}", *arguments], capture_output=True, env=environment,
                              text=True, timeout=60)

    def end(self):
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(120)
        text = open(self.log.name).read()
        check("the run ends by a signal as without a server", status == 130, f"{status}: {text[-400:]}")
        counts = re.findall(r"frames: (\d+) in = (\d+) out \+ (\d+) dropped", text)     # the last: the summary
        check("its frames add up", counts and int(counts[-1][0]) == int(counts[-1][1]) + int(counts[-1][2]),
              text[-1200:])


def png_pixels(data):
    """Raw rows of an RGB PNG without interlacing, filters undone: enough to compare pictures."""
    width, height, depth, color = struct.unpack("!IIBB", data[16:26])
    assert (depth, color) == (8, 2), (depth, color)
    packed, at = b"", 8
    while at < len(data):
        size, kind = struct.unpack("!I4s", data[at:at + 8])
        packed += data[at + 8:at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    raw, stride, rows = zlib.decompress(packed), 3 * width, []
    before = bytearray(stride)
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for i in range(stride):
            a, b, c = (line[i - 3] if i >= 3 else 0), before[i], (before[i - 3] if i >= 3 else 0)
            guess = min((a, b, c), key=lambda v: (abs(a + b - c - v), (a, b, c).index(v)))
            line[i] = (line[i] + (0, a, b, (a + b) // 2, guess)[kind]) & 255
        rows.append(bytes(line))
        before = line
    return b"".join(rows)


def difference(a, b):
    return sum(abs(x - y) for x, y in zip(a, b)) / len(a)


class Events(threading.Thread):
    """Reads /api/events to the end and keeps the states."""

    def __init__(self, run):
        super().__init__(daemon=True)
        self.run_, self.states, self.ended = run, [], False
        self.start()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.run_.port, timeout=120)
        connection.request("GET", f"/api/events?token={self.run_.token or ''}")
        answer = connection.getresponse()
        for line in iter(answer.readline, b""):
            if line.startswith(b"data: "):
                self.states.append(json.loads(line[6:]))
        self.ended = True


def parts(data):
    """The (view, frame, jpeg) of what was read of a multipart stream."""
    found = []
    for head in re.finditer(rb"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: (\d+)\r\nX-View: (\w+)\r\n"
                            rb"X-Frame: (\d+)\r\n\r\n", data):
        jpeg = data[head.end():head.end() + int(head[1])]
        if len(jpeg) == int(head[1]):
            found.append((head[2].decode(), int(head[3]), jpeg))
    return found


def read_stream(run, path, seconds=3.0):
    connection = http.client.HTTPConnection("127.0.0.1", run.port, timeout=30)
    connection.request("GET", path, headers={"Authorization": f"Bearer {run.token}"} if run.token else {})
    answer = connection.getresponse()
    data, until = b"", time.monotonic() + seconds
    while time.monotonic() < until and answer.status == 200:
        data += answer.read1(65536)
    connection.close()
    return answer, data


def test_model():
    """What is said is done: a changed prompt is in the state, in the events and in the picture."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as timeline:
        timeline.write('{"at": 0, "seed": 11}\n')
        timeline.flush()
        run = Run(MODEL_RUN + ["--osc", ":0", "--timeline", timeline.name, "--more-steps", "43,47/50"])
    events = Events(run)
    wait(lambda: run.frames_out() >= 10, "frames come out")
    check("what the timeline changes shows", run.state()["params"]["seed"] == 11, run.state()["params"])
    status, table = run.json("GET", "/api/params")
    names = [row["name"] for row in table]
    check("the table has the prompt", status == 200 and "prompt" in names, table)
    check("and nothing that this run cannot do", "negative" not in names, names)
    check("with its value", table[names.index("prompt")]["value"] == "a van gogh painting", table)

    def picture():
        status, headers, data = run.ask("POST", "/api/snapshot")
        check("a snapshot is a PNG", status == 200 and data.startswith(b"\x89PNG\r\n\x1a\n"), data[:80])
        return int(headers["X-Frame"]), png_pixels(data)

    frame, first = picture()
    wait(lambda: run.frames_out() >= frame + 3, "the next frames")
    _, second = picture()
    same = difference(first, second)
    changed_before = run.frames_out()
    status, answer = run.json("PATCH", "/api/params", json.dumps({"prompt": "an ink drawing"}))
    check("the prompt changes", status == 200 and answer["params"]["prompt"] == "an ink drawing", answer)
    changed_at = run.frames_out()
    wait(lambda: run.frames_out() >= changed_at + 12, "frames after the change")
    _, third = picture()
    check("the picture changes with it", difference(second, third) > 2 * same + 8,
          f"{difference(second, third):.1f} after, {same:.1f} before")
    check("the state says so", run.state()["params"]["prompt"] == "an ink drawing")
    receipts = run.state()["receipts"]
    good = [(r["number"], r["param"], r["state"]) for r in receipts] == [(1, "prompt", "done")]
    soon = changed_at + 16      # what the state tells may be a quarter of a second old
    check("the first frame that has it is said", good and changed_before < receipts[0]["frame"] <= soon,
          f"{changed_before} {changed_at} {receipts}")
    check("an event says so", any(s["params"]["prompt"] == "an ink drawing" and s["changes"] == 1
                                  for s in events.states), len(events.states))
    check("events go on", wait(lambda: len(events.states) > 4, "more events"))
    latency = run.state()["latency_ms"]
    check("latency is measured", 0 < latency["p50"] <= latency["p99"] and latency["count"] > 10, latency)

    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    port = int(re.search(r"OSC on udp 127.0.0.1:(\d+)", open(run.log.name).read())[1])
    for packet in (b"", b"rubbish", b"/prompt\0,i\0\0\0\0\0\7", os.urandom(1000),
                   b"/prompt\0,s\0\0a pencil sketch\0"):
        sender.sendto(packet, ("127.0.0.1", port))
    check("OSC changes the prompt", wait(lambda: run.state()["params"]["prompt"] == "a pencil sketch", "OSC", 20))
    check("and says what it cannot read", "control: OSC: " in open(run.log.name).read())

    said = run.ctl("prompt=a cartoon")
    check("ctl changes the prompt", said.returncode == 0 and run.state()["params"]["prompt"] == "a cartoon", said)
    said = run.ctl("blend=1, 2")
    check("there is nothing to blend", said.returncode == 1 and "the prompt has 1 part;" in said.stderr, said)
    said = run.ctl("prompt=a cartoon :1 | an ink drawing :3")
    check("the state has the shares", said.returncode == 0 and run.state()["params"]["blend"] == "0.25, 0.75", said)
    said = run.ctl("blend=2, 1")
    check("ctl changes them", said.returncode == 0 and run.state()["params"]["blend"] == "2, 1", said)
    check("and it is done", wait(lambda: [(r["param"], r["state"]) for r in run.state()["receipts"]][-1:]
                                 == [("blend", "done")], "its receipt"))
    said = run.ctl("prompt=a cartoon", "blend=1")
    check("both at once", said.returncode == 0 and run.state()["params"]["blend"] == "1", said)
    said = run.ctl("steps=43,47/50")
    check("ctl changes the steps", said.returncode == 0 and run.state()["params"]["steps"] == "43,47/50", said)
    said = run.ctl()
    check("ctl prints the state", "paint-s at 64x64" in said.stdout and "prompt=a cartoon" in said.stdout, said)
    said = run.ctl("--list")
    check("ctl lists the parameters", "\nprompt: TEXT; " in said.stdout, said)
    said = run.ctl("promt=x")
    check("ctl names what there is not", said.returncode == 1 and "'promt' is no parameter" in said.stderr, said)
    said = run.ctl("prompt=(red:9)")
    check("ctl says why not", said.returncode == 1 and "prompt: " in said.stderr and said.stderr.count("\n") == 1, said)
    check("a refused change changes nothing", run.state()["params"]["prompt"] == "a cartoon")
    said = run.ctl("show=source", "noise=fresh", "seed=7", "rewarm")
    check("ctl changes several", said.returncode == 0 and run.state()["params"]["show"] == "source", said)
    wait(lambda: [r["state"] for r in run.state()["receipts"]][-4:] == ["done"] * 4, "their receipts")
    at = run.frames_out()
    wait(lambda: run.frames_out() >= at + 3, "frames of the source")
    _, shown = picture()
    check("the source is shown", difference(shown, third) > 8, difference(shown, third))
    said = run.ctl("show=drawn", "seed=-1")
    check("all or nothing", said.returncode == 1 and "seed: -1 is out of its range" in said.stderr and
          run.state()["params"]["show"] == "source", said)
    with tempfile.TemporaryDirectory() as folder:
        said = run.ctl("--snapshot", f"{folder}/a.jpg")
        check("ctl saves a picture", open(f"{folder}/a.jpg", "rb").read(3) == b"\xff\xd8\xff", said)

    answer, data = read_stream(run, "/preview.mjpeg?view=both", 4)
    found = parts(data)
    views = {view for view, _, _ in found}
    check("the preview has source and result", views == {"source", "result"}, views)
    numbers = [n for view, n, _ in found if view == "result"]
    check("its frames advance", len(numbers) >= 2 and numbers[-1] > numbers[0], numbers)
    run.end()
    check("the event stream ends with the run", wait(lambda: events.ended, "the end of events", 20))


def raw(run, text, timeout=15):
    """What comes back for these bytes, up to the end of the connection or a pause."""
    with socket.create_connection(("127.0.0.1", run.port), timeout) as s:
        s.sendall(text)
        data = b""
        try:
            while more := s.recv(65536):
                data += more
                if b"Content-Length: " in data and b"\r\n\r\n" in data:
                    size = int(re.search(rb"Content-Length: (\d+)", data)[1])
                    if len(data.split(b"\r\n\r\n", 1)[1]) >= size:
                        break
        except (ConnectionResetError, TimeoutError):
            pass
        return data


def test_requests():
    """Wrong requests get one line of JSON."""
    run = Run(PLAIN_RUN)
    wait(lambda: run.frames_out() > 3, "frames come out")
    patch = {"Content-Type": "application/json"}
    cases = [
        ("PATCH", "/api/params", "{", patch, 400, "not JSON"),
        ("PATCH", "/api/params", "", patch, 400, "not JSON"),
        ("PATCH", "/api/params", '{"prompt": "x"}', patch, 400, "prompt: no such parameter here"),
        ("GET", "/nowhere", None, {}, 404, "/nowhere: no such path"),
        ("GET", "/../../etc/passwd", None, {}, 404, "no such path"),
        ("DELETE", "/api/params", None, {}, 405, "expected GET, PATCH, POST"),
        ("POST", "/", None, {}, 405, "expected GET"),
        ("OPTIONS", "/api/params", None, {}, 405, "expected GET"),
        ("POST", "/api/snapshot?format=gif", None, {}, 400, "png or jpeg"),
        ("POST", "/api/snapshot?view=both", None, {}, 400, "result or source"),
        ("GET", "/preview.mjpeg?view=x", None, {}, 400, "result, source or both"),
        ("GET", "/api/state", None, {"Host": "evil.example"}, 403, "not to 'evil.example'"),
        ("GET", "/", None, {"Host": "evil.example:8080"}, 403, "localhost"),
        ("PATCH", "/api/params", "{}", {"Origin": "http://evil.example"}, 403, "another site"),
        ("POST", "/api/snapshot", None, {"Origin": "null"}, 403, "another site"),
        ("GET", "/preview.jpg", None, {"Sec-Fetch-Site": "cross-site"}, 403, "another site"),
        ("PATCH", "/api/params", "x" * 20000, patch, 413, "at most 16384"),
    ]
    for method, path, body, headers, wanted, why in cases:
        status, _, data = run.ask(method, path, body, headers)
        line = data.decode()
        good = status == wanted and why in json.loads(line)["error"] and line.count("\n") == 1
        check(f"{method} {path} {headers}: {wanted}", good, f"{status} {line}")
    begin = time.monotonic()
    data = raw(run, b"PATCH /api/params HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n{")
    check("a huge body is refused before it is read", b" 413 " in data and time.monotonic() - begin < 5, data[:80])
    data = raw(run, b"PATCH /api/params HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                    b"5\r\nhello\r\n")
    check("so is one of unknown size", b" 411 " in data, data[:80])
    for garbage in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", os.urandom(4000),
                    b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n" +
                    b"X: y\r\n" * 50000 + b"\r\n"):
        raw(run, garbage, 2)
    check("garbage ends nothing", run.json("GET", "/api/state")[0] == 200)
    status, headers, data = run.ask("GET", "/")
    check("the page is there", status == 200 and b"<title>live2diff</title>" in data)
    check("with a strict policy", "default-src 'none'" in headers["Content-Security-Policy"], headers)
    check("no other site may read", headers["Access-Control-Allow-Origin"] is None, headers)
    check("GET is also HEAD", run.ask("HEAD", "/api/state")[0] == 200)
    status, headers, data = run.ask("GET", "/metrics")
    check("metrics", status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4") and
          re.search(rb"\nlive2diff_frames_out_total [1-9]\d*\n", data), data[:200])
    status, headers, data = run.ask("GET", "/preview.jpg?view=source")
    check("the source is there", status == 200 and data.startswith(b"\xff\xd8\xff"), data[:80])
    run.end()


def test_token():
    """With a token nothing but the page's own files is given out without it."""
    run = Run(PLAIN_RUN, "0.0.0.0:0", TOKEN)
    wait(lambda: run.frames_out() > 3, "frames come out")
    for path in ("/api/state", "/api/params", "/api/events", "/preview.jpg", "/preview.mjpeg", "/metrics"):
        for wrong in ("", "Bearer", "Bearer x", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Basic {TOKEN}"):
            status, headers, data = run.ask("GET", path, headers={"Authorization": wrong})
            if status != 401 or TOKEN.encode() in data or headers["WWW-Authenticate"] != "Bearer":
                check(f"{path} with '{wrong}'", False, f"{status} {data}")
    check("wrong tokens are refused", True)
    check("the page may be seen", run.ask("GET", "/", headers={"Authorization": ""})[0] == 200)
    none = {"Authorization": ""}
    check("?token= reads", run.ask("GET", f"/api/state?token={TOKEN}", headers=none)[0] == 200)
    check("?token= does not write", run.ask("PATCH", f"/api/params?token={TOKEN}", "{}", none)[0] == 401)
    check("a foreign Host is nobody's concern behind a token",
          run.ask("GET", "/api/state", headers={"Host": "studio.lan"})[0] == 200)
    check("ctl sends the token", run.ctl().returncode == 0)
    run.token = "another-token"
    said = run.ctl()
    check("ctl with a wrong token", said.returncode == 1 and "expected the run's token" in said.stderr, said)
    run.token = TOKEN
    run.end()


def test_slow_clients():
    """200 clients that do not read, or send a byte now and then, while frames go on and others are answered."""
    run = Run(PLAIN_RUN)
    wait(lambda: run.frames_out() > 10, "frames come out")
    before, begin = run.frames_out(), time.monotonic()
    time.sleep(4)
    alone = (run.frames_out() - before) / (time.monotonic() - begin)    # what this machine does without them
    before, begin = run.frames_out(), time.monotonic()
    asks = [b"GET /preview.mjpeg?view=both HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"PATCH /api/params HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16000\r\n\r\n{",
            b"GET /api/st"]
    sockets = []
    for i in range(200):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        s.settimeout(5)
        try:
            s.connect(("127.0.0.1", run.port))
            s.sendall(asks[i % len(asks)])
        except OSError:
            pass
        sockets.append(s)
    time.sleep(5)
    threads = int(re.search(r"Threads:\s*(\d+)", open(f"/proc/{run.process.pid}/status").read())[1])
    check("no thread a client", threads < 60, threads)
    # Those that say nothing are let go of, so that this one is answered: within their limit, not at once.
    status, state = run.json("GET", "/api/state", timeout=90)
    seconds = time.monotonic() - begin
    rate = (state["frames"]["out"] - before) / seconds
    check("another client is answered meanwhile", status == 200)
    check("frames go on at their pace", rate > 0.6 * alone > 0, f"{rate:.1f} a second, {alone:.1f} before")
    check("few may watch", state["clients"]["events"] <= 16 and state["clients"]["preview"] <= 24, state["clients"])
    for s in sockets:
        s.close()
    check("they are forgotten", wait(lambda: sum(run.state()["clients"].values()) == 0, "clients to leave", 60) is True)
    run.end()


def test_start():
    """Addresses that cannot be had, before anything is written."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    cases = [(["--control", "8080"], 2, "expected HOST:PORT"),
             (["--control", ":99999"], 2, "expected a port"),
             (["--control-token", "abcdefgh"], 2, "need --control"),
             (["--osc", ":9"], 2, "need --control"),
             (["--control", ":0", "--osc", "9"], 2, "expected HOST:PORT"),
             (["--control", ":0", "--osc", "0.0.0.0:0"], 1, "--osc 0.0.0.0 can be reached"),
             (["--control", "0.0.0.0:0"], 1, "set a token"),
             (["--control", "0.0.0.0:0", "--control-token", "short"], 1, "8 to 256 characters"),
             (["--control", "192.0.2.1:0", "--control-token", "abcdefgh"], 1, "192.0.2.1"),
             (["--control", f":{port}"], 1, "another run, has this port")]
    environment = {k: v for k, v in os.environ.items() if k != "LIVE2DIFF_TOKEN"}
    for arguments, wanted, why in cases:
        said = subprocess.run([PROGRAM, "run", *PLAIN_RUN, "--frames", "3", *arguments], capture_output=True, text=True,
                              env=environment, timeout=60)
        asides = re.compile("live2diff: (gpu|engine|reader|control: http):")
        lines = [line for line in said.stderr.splitlines() if not asides.match(line)]
        check(f"{' '.join(arguments)}: {why}", said.returncode == wanted and why in said.stderr and len(lines) == 1,
              f"{said.returncode}: {said.stderr}")
    for arguments, wanted, why in [(["-a", "x"], 2, "expected HOST:PORT"), (["-a", ":0"], 2, "port 0"),
                                   (["-a", ":1"], 1, "does a live2diff run"), (["--token", "x"], 2, "8 to 256"),
                                   (["--list", "a=b"], 2, "takes no KEY=VALUE")]:
        said = subprocess.run([PROGRAM, "ctl", *arguments], capture_output=True, text=True, env=environment, timeout=60)
        check(f"ctl {' '.join(arguments)}: {why}", said.returncode == wanted and why in said.stderr and
              said.stderr.count("\n") == 1, said.stderr)
    said = subprocess.run([PROGRAM, "ctl", "-a", f":{port}"], capture_output=True, text=True, env=environment,
                          timeout=60)
    check("ctl does not wait for ever", said.returncode == 1 and "no answer within 10 s" in said.stderr, said.stderr)


def test_same_pictures():
    """A run that is watched writes the same video as one that is not."""
    hashes = []
    with tempfile.TemporaryDirectory() as folder:
        for i, watched in enumerate((False, True)):
            name = f"{folder}/{i}.y4m"
            arguments = ["-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25:duration=3,realtime", "-o", name, "--size",
                         "64x64", "--passthrough"]
            if watched:
                run = Run(arguments)
                read_stream(run, "/preview.mjpeg?view=both", 1.5)
                check("a watched run ends by itself", run.process.wait(60) == 0)
            else:
                subprocess.run([PROGRAM, "run", *arguments], check=True, capture_output=True, timeout=60)
            hashes.append(hashlib.sha256(open(name, "rb").read()).hexdigest())
    check("watching changes no frame", hashes[0] == hashes[1], hashes)


def test_record():
    """What is changed by hand is written as a timeline, which draws the same video again."""
    with tempfile.TemporaryDirectory() as folder:
        line = f"{folder}/line.jsonl"
        common = ["-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25:duration=4", "--size", "64x64"]
        run = Run(common + ["-o", f"{folder}/a.y4m", "-p", "a pencil drawing", "--seed", "5", "--more-steps",
                            "43,47/50", "--record-timeline", line])
        wait(lambda: run.frames_out() >= 10, "frames come")
        run.json("PATCH", "/api/params", json.dumps({"prompt": "an ink drawing", "fade": 5, "easing": "smooth"}))
        wait(lambda: run.frames_out() >= 25, "frames come")
        run.json("PATCH", "/api/params", json.dumps({"steps": "43,47/50", "seed": 9, "steady": 0.25}))
        check("a recorded run ends by itself", run.process.wait(60) == 0)
        made = [json.loads(text) for text in open(line)]
        check("all changes are in the record", [next(k for k in entry if k != "at") for entry in made] ==
              ["prompt", "seed", "steady", "mix", "prompt", "steps", "seed", "steady"], made)
        again = subprocess.run([PROGRAM, "run", *common, "-o", f"{folder}/b.y4m", "--timeline", line], timeout=120)
        hashes = [hashlib.sha256(open(f"{folder}/{name}.y4m", "rb").read()).hexdigest() for name in "ab"]
        check("the timeline draws the same video", again.returncode == 0 and hashes[0] == hashes[1], made)
        refused = subprocess.run([PROGRAM, "run", *common, "-o", "null", "--control", "127.0.0.1:0",
                                  "--record-timeline", line], timeout=120, capture_output=True, text=True)
        check("a record that is there is refused before anybody can ask", refused.returncode == 1 and
              "exists already" in refused.stderr and "control: http" not in refused.stderr, refused.stderr)


def test_pause():
    """A file that is paused is written as one that is not, once it goes on."""
    hashes = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25:duration=16", "-f",
                        "lavfi", "-i", "sine=duration=16", f"{folder}/in.mkv"], check=True)
        for paused in (False, True):
            name = f"{folder}/{paused}.mkv"
            run = Run(["-i", f"{folder}/in.mkv", "-c", "ffv1", "-o", name, "-o", f"{folder}/{paused}.y4m",
                       "--size", "64x64", "--seed", "3", "--steps", "43/50"])
            if paused:
                check("it pauses", run.ctl("pause=on").returncode == 0 and run.state()["params"]["pause"] is True)
                time.sleep(2)
                before = run.frames_out()
                time.sleep(2)
                check("nothing comes out meanwhile", run.frames_out() == before and
                      os.path.exists(f"{name}.part"), f"{before} {run.frames_out()}")
                check("it goes on", run.ctl("pause=off").returncode == 0)
            check("it ends by itself", run.process.wait(300) == 0, open(run.log.name).read()[-400:])
            sums = subprocess.run(["ffmpeg", "-v", "error", "-i", name, *"-c copy -f framemd5 -".split()], check=True,
                                  capture_output=True).stdout
            hashes.append((hashlib.sha256(open(f"{folder}/{paused}.y4m", "rb").read()).hexdigest(), sums))
        check("the same pictures, sound and times", hashes[0] == hashes[1] and hashes[0][1].count(b"\n") > 400)
        run = Run(["-i", f"{folder}/in.mkv", "-o", f"{folder}/ended.mkv", *"--size 64x64 --steps 43/50".split()])
        run.ctl("pause=on")
        run.end()
        check("a signal ends a pause", os.path.exists(f"{folder}/ended.mkv"))


class Receiver(threading.Thread):
    """A server of one connection: reads all that comes into a file, or nothing at all."""

    def __init__(self, file=None):
        super().__init__(daemon=True)
        self.file, self.socket, self.ended = file, socket.socket(), threading.Event()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20 if file else 2048)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen()
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.start()

    def run(self):
        self.connection, _ = self.socket.accept()
        if self.file:
            with open(self.file, "wb") as out:
                while data := self.connection.recv(65536):
                    out.write(data)
            self.ended.set()


LEAST = 60              # pictures that each output gets
# Each picture has one brightness, of 50 in turn, 4 apart; each second begins with a beep.
NUMBERED = ["-f", "lavfi", "-i", "color=black:s=64x64:r=25,format=yuv420p,geq=lum='16+4*mod(N,50)':cb=128:cr=128",
            "-f", "lavfi", "-i", "aevalsrc='if(lt(mod(t,1),0.1),sin(4000*t),0)':s=48000"]


def check_output(name, least):
    """Pictures in order, none but the source's, each at its time; a key frame at 0 first; sound with its picture."""
    probe = ["ffprobe", "-v", "error", "-of", "csv=p=0", "-select_streams", "v"]
    first = subprocess.run([*probe, "-show_entries", "packet=pts_time,flags", "-read_intervals", "%+#1", name],
                           capture_output=True, text=True).stdout.split(",")
    times = [float(t) for t in subprocess.run([*probe, "-show_entries", "frame=pts_time", name], capture_output=True,
                                              text=True).stdout.replace(",", "").split()]
    pixels = subprocess.run(["ffmpeg", "-v", "error", "-i", name, "-map", "0:v", "-fps_mode", "passthrough", "-vf",
                             "extractplanes=y,crop=1:1:160:96", "-f", "rawvideo", "-"], capture_output=True).stdout
    numbers = [round((y - 16) / 4) for y in pixels]
    short = os.path.basename(name)
    check(f"{short}: enough pictures", len(times) == len(numbers) >= least, f"{len(times)} {len(numbers)}")
    if not numbers or not first[0]:
        return
    check(f"{short}: a key frame at its beginning", abs(float(first[0])) < 0.1 and "K" in first[1], first)
    off = [(t, n) for t, n in zip(times, numbers) if abs((t - times[0]) * 25 - (n - numbers[0]) + 25) % 50 - 25 > 0.6]
    check(f"{short}: each at its time, in order", not off and times == sorted(set(times)), off[:5])
    # With the pictures: of an MPEG-TS without them, ffmpeg moves the sound to 0.
    said = subprocess.run(["ffmpeg", "-v", "info", "-copyts", "-i", name, "-af", "aresample=async=1,silencedetect="
                           "n=0.1:d=0.3", "-f", "null", "-"], capture_output=True, text=True).stderr
    beeps = [float(t) for t in re.findall(r"silence_end: ([\d.]+)", said)][1:-1]      # but the ends
    late = []           # seconds from a picture whose number 25 divides to its beep; pictures may be missing
    for beep in beeps:
        at = min(range(len(times)), key=lambda i: abs(times[i] - beep))
        late.append((numbers[at] / 25 + beep - times[at] + 0.5) % 1 - 0.5)
    check(f"{short}: sound in sync", late and max(map(abs, late)) < 0.045, late)


def test_outputs():
    """Outputs that come and go leave the others as they are, and are whole themselves."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["ffmpeg", "-v", "error", *NUMBERED, "-t", "300", "-c:v", "ffv1", "-c:a", "aac",
                        f"{folder}/in.mkv"], check=True)
        os.mkdir(f"{folder}/made")
        run = Run(["-i", "in.mkv", "--realtime", "-c", "ffv1", "-o", "a.mkv", "--size", "320x192", "--passthrough",
                   "--folder", "made"], folder=folder)
        wait(lambda: run.frames_out() > 25, "frames come out")

        def add(**what):
            return run.json("POST", "/api/outputs", json.dumps(what))

        def ids():
            return [output["id"] for output in run.state()["outputs"]]

        status, answer = add(url="b.mkv", codec="ffv1")
        check("a file is added", status == 201 and answer["id"] == 1, answer)
        network, stalled, silent = Receiver(f"{folder}/c.ts"), Receiver(), Receiver()
        said = run.ctl("--add-output", f"tcp://{network.address}")
        check("ctl adds a push", said.returncode == 0 and said.stdout == "output 2: running\n", said)
        status, answer = add(url=f"tcp://{stalled.address}?send_buffer_size=20000", format="nut", codec="rawvideo")
        check("a push that will stall is added", status == 201, answer)
        check("a recording begins", run.ctl("record=on").returncode == 0)

        slow = []
        waiter = threading.Thread(target=lambda: slow.append(add(url=f"rtmp://{silent.address}/app/secret-key")))
        waiter.start()
        begin, longest = time.monotonic(), 0
        while time.monotonic() - begin < 3:
            asked = time.monotonic()
            run.state()
            longest = max(longest, time.monotonic() - asked)
            time.sleep(0.2)
        check("others are answered meanwhile", longest < 1.5, longest)
        waiter.join()
        check("what does not answer is said to be opening", slow[0][0] == 202 and
              slow[0][1]["state"] == "opening", slow)
        check("its key is no one else's", "secret-key" not in json.dumps(run.state()), run.state()["outputs"])

        wait(lambda: run.state()["outputs"][3]["dropped"] > 0, "the stalled one drops pictures")
        wait(lambda: all(o["frames"] >= LEAST for o in run.state()["outputs"] if o["id"] in (0, 1, 2, 4)),
             "those of the others go on")
        for number in (slow[0][1]["id"], 3):
            begin = time.monotonic()
            status, answer = run.json("DELETE", f"/api/outputs/{number}")
            check("a stalled one is removed", status == 202 and answer["state"] == "finishing", answer)
            check("the answer does not wait", time.monotonic() - begin < 1, time.monotonic() - begin)
            wait(lambda: number not in ids(), "its end", 20)
            check("within its bound", time.monotonic() - begin < 4, time.monotonic() - begin)
        check("a recording ends", run.ctl("record=off").returncode == 0)
        check("ctl removes", run.ctl("--remove-output", "2").stdout == "output 2: finishing\n")
        check("so does DELETE", run.json("DELETE", "/api/outputs/1")[0] == 202)
        wait(lambda: ids() == [0], "all of them to leave", 20)
        check("the push was ended", network.ended.wait(10))

        for what, wanted, why in (
                ({"url": "b.mkv"}, 400, "b.mkv: exists already"), ({"url": "in.mkv"}, 400, "is the input"),
                ({"url": "a.mkv"}, 400, "is an output already"), ({"url": "../x.mkv"}, 400, "cannot be written to"),
                ({"url": "/tmp/x.mkv"}, 400, "cannot be written to"), ({"url": "-"}, 400, "cannot be written to"),
                ({"url": "file:///tmp/x.mkv"}, 400, "cannot be pushed to"), ({"url": "x.txt"}, 400, "no name of"),
                ({"url": "x.mkv", "format": "tee"}, 400, "format: 'tee'"), ({"url": 5}, 400, "url: expected a string"),
                ({"url": "x.mkv", "codec": "nope"}, 400, "no video encoder 'nope'"), ({}, 400, "url: expected where"),
                ({"url": "x.mkv", "codec_options": "stats=/tmp/x"}, 400, "codec_options: 'stats=/tmp/x'"),
                ({"url": "tcp://127.0.0.1:1"}, 502, "Connection refused")):
            status, answer = add(**what)
            check(f"{what}: {why}", status == wanted and why in answer["error"], f"{status} {answer}")
        for path, wanted in (("77", 404), ("x", 404), ("", 404), ("99999999999", 404), ("0", 409)):
            status, answer = run.json("DELETE", f"/api/outputs/{path}")
            check(f"DELETE {path}: {wanted}", status == wanted and answer["error"], f"{status} {answer}")
        said = run.ctl("--add-output", "x.txt")
        check("ctl says why not", said.returncode == 1 and said.stderr.count("\n") == 1 and "x.txt" in said.stderr,
              said)
        check("another recording begins", run.ctl("record=on").returncode == 0)
        wait(lambda: run.state()["outputs"][-1]["frames"] > 5, "its pictures")
        os.rename(f"{folder}/made", f"{folder}/moved")
        check("it ends", run.ctl("record=off").returncode == 0)
        wait(lambda: ids() == [0], "its end", 20)
        check("a file that does not get its name is told of", re.search(
            r"warning: .*mkv: removed \(failed: .*cannot be renamed", open(run.log.name).read()))
        os.rename(f"{folder}/moved", f"{folder}/made")
        os.remove(next(e.path for e in os.scandir(f"{folder}/made") if e.name.endswith(".part")))
        many = [add(url="null")[0] for _ in range(16)]
        check("there are at most 16", many == [201] * 15 + [409], many)
        run.end()
        text = open(run.log.name).read()
        check("every frame has a fate", "without a fate" not in text, text)
        check("no file is left half", not [n for n in os.listdir(folder) if n.endswith(".part")], os.listdir(folder))
        recorded = os.listdir(f"{folder}/made")
        check("the recording has its name", len(recorded) == 1 and
              re.fullmatch(r"live2diff-\d{8}-\d{6}\.mkv", recorded[0]), recorded)
        for name in ("a.mkv", "b.mkv", "c.ts", f"made/{recorded[0]}"):
            check_output(f"{folder}/{name}", LEAST)


def test_joining_sound():
    """The sound of a recording's first pictures is in it, though it has gone by when they come."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run([*"-o null --size 64x64 --passthrough --realtime --buffer 1000".split(), "--folder", folder, "-f",
                   "lavfi", "-i", "testsrc2=size=64x64:rate=25[out0];sine[out1]"])
        wait(lambda: run.frames_out() > 25, "frames come out")
        run.ctl("record=on")
        wait(lambda: run.state()["outputs"][-1]["frames"] > 50, "those of the recording")
        run.end()
        starts = subprocess.run(["ffprobe", "-v", "error", "-show_entries", "stream=start_time", "-of", "csv=p=0",
                                 f"{folder}/{os.listdir(folder)[0]}"], capture_output=True, text=True).stdout.split()
        check("both begin together", len(starts) == 2 and max(map(float, starts)) < 0.1, starts)


TESTS = (test_start, test_requests, test_token, test_same_pictures, test_pause, test_joining_sound, test_outputs,
         test_slow_clients, test_record, test_model)
for test in TESTS:
    if sys.argv[2:] and test.__name__.removeprefix("test_") not in sys.argv[2:]:
        continue
    print(f"-- {test.__doc__.splitlines()[0]}", flush=True)
    test()
print(f"{failures} failures")
sys.exit(failures != 0)
