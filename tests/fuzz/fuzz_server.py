#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A hostile network against a real run's --control and --osc: rubbish, and what is nearly right.

    fuzz_server.py PROGRAM SECONDS [SEED]

Clients send requests of all kinds, mutated, in pieces, several at once, with bodies that are too long, chunked or never
come, ask for websockets, stay half open, or read nothing; 200 of them send a byte now and then; packets of OSC come in
between. Meanwhile somebody who means well asks for the state and changes parameters. PROGRAM should have sanitizers.
At the end: none has anything to say, frames went on, answers were in form, no descriptor and little memory is left
over, and a signal ends the run at once. Exit status 1 if not.
"""
import collections
import json
import os
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NUM_CLIENTS, NUM_SLOW = 10, 200
SLOW_EVERY_S, SLOW_FOR_S = 90, 30
PATIENCE_S = 120            # of who means well, while 64 connections are taken by others; 30 s end each of those
MOST_GROWTH_MIB = 64        # of the run's memory
STILL_FOR_S = 30            # with sanitizers, on a busy machine, while each change warms the model anew
STOP_WITHIN_S = 10          # with sanitizers, on a busy machine
VALUES = ["null", "true", "-1", "0", "1e400", "9007199254740993", '""', '"an ink drawing"', '"(red:1.3) house :0.7"',
          '"\\u0000"', '"\\ud800"', "[]", "{}", '"' + "a" * 5000 + '"', "[" * 2000, '"43/50"', '"drawn"', '"fresh"']
NAMES = ["prompt", "negative", "fade", "easing", "steps", "seed", "noise", "show", "rewarm", "", "x" * 300, "\\u0000"]
PATHS = ["/", "/app.js", "/api/state", "/api/params", "/api/events", "/api/snapshot", "/preview.jpg", "/preview.mjpeg",
         "/metrics", "/api/outputs", "/api/outputs/", "/api/outputs/-1", "/api/outputs/18446744073709551617",
         "/api/outputs/2", "/../etc/passwd", "/%00", "/%", "//", "/api/params/", "*", "http://localhost/api/state",
         "/" + "a" * 9000]
OUTPUTS = ['{"url": "null"}', '{"url": "f%d.mkv", "codec": "ffv1"}', '{"url": "f%d.mp4"}', '{"url": "f%d.y4m"}',
           '{"url": "../f%d.mkv"}', '{"url": "f%d.mkv", "format": "segment"}', '{"url": "f%d.mkv", "codec": "nosuch"}',
           '{"url": "rtmp://127.0.0.1:1/a/%d"}', '{"url": "udp://127.0.0.1:9?x=%d", "format": "mpegts"}',
           '{"url": "display"}', '{"url": "file:f%d.mkv"}', '{"url": ""}', '{"url": %d}',
           '{"url": "f%d.mkv", "codec_options": "stats=/f"}']
QUERIES = ["", "", "?view=source", "?view=both", "?format=jpeg", "?format=", "?view", "?token=abcdefgh", "?&&&==",
           "?" + "a=b&" * 800]
METHODS = ["GET", "GET", "PATCH", "POST", "HEAD", "OPTIONS", "DELETE", "PUT", "CONNECT", "TRACE", "get", "G" * 500]
HEADERS = ["Host: localhost", "Host: evil.example", "Host:", "Origin: null", "Connection: close", "Connection: Upgrade",
           "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
           "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Content-Length: -1", "Content-Length: 0",
           "Content-Length: 18446744073709551615", "Content-Length: 12x", "Content-Length: 16384",
           "Expect: 100-continue", "Authorization: Bearer", "Authorization: Bearer " + "x" * 400, "Range: bytes=0-1",
           "Cookie: a=b; c", ": x", "Sec-Fetch-Site: cross-site", "X: " + "y" * 40000, "X:\x00y", " folded: z",
           "Content-Type: application/json"]
TOKENS = [b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"%", b"HTTP/1.1", b"HTTP/9.9", b"\xff\xfe", b"0\r\n\r\n", b"{",
          b'"']
OSC = [b"/prompt\0,s\0\0ink\0", b"/fade\0\0\0,i\0\0\0\0\0\x0c", b"/seed\0\0\0,h\0\0\0\0\0\0\0\0\0\x07",
       b"/noise\0\0,f\0\0\x7f\xc0\0\0",
       b"/rewarm\0,\0\0\0", b"#bundle\0........\0\0\0\024/prompt\0,s\0\0an oil\0\0\0\0\0\0\0\x10/fade\0\0\0,T\0\0",
       b"#bundle\0........" * 100, b"/*\0\0,s\0\0x\0\0\0", b"/prompt\0,sssssssss"]

failures = 0
counts = collections.Counter()
ending = threading.Event()


def check(good, what):
    global failures
    print(("ok: " if good else "FAIL: ") + what, flush=True)
    failures += not good


# ---- what is sent

def body_of(rng):
    pairs = ", ".join(f'"{rng.choice(NAMES)}": {rng.choice(VALUES)}' for _ in range(rng.randint(0, 4)))
    return rng.choice(["{%s}", "{%s}", "{%s}", "[%s]", "{%s", "%s", "{%s}{}"]).replace("%s", pairs).encode()


def chunked(rng, body):
    sizes = rng.choices([f"{len(body):x}", "0", "-1", "ffffffffffffffff", "5;x=y", "zz", ""], k=rng.randint(1, 3))
    end = rng.choice([b"0\r\n\r\n", b"", b"0\r\nX: y\r\n\r\n"])
    return b"".join(size.encode() + b"\r\n" + body + b"\r\n" for size in sizes) + end


def request(rng):
    method = rng.choice(METHODS)
    body = body_of(rng) if method in ("PATCH", "POST", "PUT") or rng.random() < 0.1 else b""
    headers = ["Host: localhost"] if rng.random() < 0.9 else []
    headers += rng.sample(HEADERS, rng.choice([0, 0, 1, 2, 4]))
    if body and rng.random() < 0.8:
        headers.append(f"Content-Length: {len(body) + rng.choice([0, 0, 0, 0, 1, -1, 10000])}")
    if rng.random() < 0.02:
        headers += ["X: y"] * rng.choice([50, 5000])
    if "Transfer-Encoding: chunked" in headers:
        body = chunked(rng, body)
    end = rng.choice(["\r\n"] * 8 + ["\n"])
    version = rng.choice(["HTTP/1.1"] * 8 + ["HTTP/1.0", "HTTP/2.0", ""])
    line = f"{method} {rng.choice(PATHS)}{rng.choice(QUERIES)} {version}"
    return end.join([line, *headers, "", ""]).encode("latin-1") + body


def output_request(rng):
    """An output to add, mostly right; or one to remove, but for the first."""
    if rng.random() < 0.5:
        return f"DELETE /api/outputs/{rng.randint(2, 60)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    body = rng.choice(OUTPUTS).replace("%d", str(rng.randrange(1000)))
    return (f"POST /api/outputs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n" + body).encode()


def mutate(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 8])):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at:at] = rng.choice(TOKENS) * rng.choice([1, 1, 3, 200])
        elif kind == 2:
            del data[at:at + rng.choice([1, 4, 64])]
        elif kind == 3:
            data[at:at] = data[at:at + rng.choice([4, 64, 1024])]
        else:
            del data[at:]
    return bytes(data)


def message(rng):
    kind = rng.random()
    if kind < 0.05:
        data = output_request(rng)
        return data if rng.random() < 0.8 else mutate(rng, data)
    if kind < 0.08:
        return rng.randbytes(rng.choice([1, 10, 3000, 70000]))
    if kind < 0.2:                      # several at once
        return b"".join(mutate(rng, request(rng)) for _ in range(rng.randint(2, 12)))
    if kind < 0.25:                     # a websocket, and frames for it
        return (b"GET /api/events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
                + b"\x81\xfe\xff\xff" + rng.randbytes(200))
    return mutate(rng, request(rng))


# ---- who sends it

def connect(port, buffer=None):
    s = socket.socket()
    if buffer:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    s.settimeout(5)
    s.connect(("127.0.0.1", port))
    return s


def leave(rng, s):
    if rng.random() < 0.3:              # with a reset
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def look_at(answer):
    """An answer that is JSON must be so, and a refusal of ours one line."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] (\d{3}) ", head)
    counts[status[1].decode() if status else "no status"] += 1
    length = re.search(rb"Content-Length: (\d+)", head)
    if status and b"application/json" in head and length and 0 < int(length[1]) <= len(body):
        try:
            text = body[:int(length[1])].decode()
            json.loads(text)
            if status[1] >= b"400" and text.count("\n") != 1:
                raise ValueError("not one line")
        except ValueError as error:
            check(False, f"an answer in form: {error}: {answer[:300]}")


def be_hostile(port, seed):
    rng = random.Random(seed)
    while not ending.is_set():
        try:
            s = connect(port)
        except OSError:
            counts["no connection"] += 1
            ending.wait(0.1)
            continue
        data, answer = message(rng), b""
        try:
            if rng.random() < 0.1:      # in pieces
                for at in range(0, min(len(data), 4000), max(1, len(data) // 20)):
                    s.sendall(data[at:at + max(1, len(data) // 20)])
                    ending.wait(rng.random() / 20)
            else:
                s.sendall(data)
            if rng.random() < 0.3:
                s.shutdown(socket.SHUT_WR)
            s.settimeout(rng.choice([0.05, 0.3]))
            while len(answer) < 200000 and (more := s.recv(65536)):
                answer += more
        except OSError:
            pass
        if answer and b"HEAD" not in data:      # that has a length and no body
            look_at(answer)
        leave(rng, s)


def be_slow(port, seed):
    """Many that send a byte now and then, or read nothing."""
    rng, open_ones = random.Random(seed), []
    while not ending.wait(0.02):
        if time.monotonic() % SLOW_EVERY_S > SLOW_FOR_S:       # or nobody else would be heard
            while open_ones:
                leave(rng, open_ones.pop()[0])
        elif len(open_ones) < NUM_SLOW:
            try:
                s = connect(port, 2048)
                s.setblocking(False)
                open_ones.append((s, bytearray(message(rng))))
                counts["slow ones"] += 1
            except OSError:
                pass
        for item in rng.sample(open_ones, min(len(open_ones), 10)):
            s, left = item
            try:
                if left:
                    s.send(left[:1])
                    del left[:1]
                gone = rng.random() < 0.01 or (rng.random() < 0.3 and s.recv(10) == b"")
            except BlockingIOError:
                gone = False
            except OSError:
                gone = True
            if gone:
                open_ones.remove(item)
                leave(rng, s)
    for s, _ in open_ones:
        s.close()


def send_osc(port, seed):
    rng = random.Random(seed)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        while not ending.wait(0.01):
            data = rng.choice(OSC) if rng.random() < 0.9 else rng.randbytes(rng.randrange(9000))
            s.sendto(mutate(rng, data)[:9000], ("127.0.0.1", port))
            counts["OSC"] += 1


def shown(left, files):
    return f": {left}" if len(left) > files else ""


# ---- who means well

def ask(port, method, path, body=b""):
    """Tries until there is an answer: the others may have taken all connections for a while."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            with connect(port) as s:
                s.settimeout(40)
                head = f"{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
                s.sendall(head.encode() + body)
                answer = b""
                while more := s.recv(65536):
                    answer += more
            head, _, text = answer.partition(b"\r\n\r\n")
            if head:
                return int(head.split()[1]), json.loads(text)
        except OSError:
            pass
        time.sleep(0.2)
    return None, None


def mean_well(port, seconds):
    until, last, waited, news = time.monotonic() + seconds, -1, 0.0, time.monotonic()
    while time.monotonic() < until:
        begin = time.monotonic()
        status, state = ask(port, "GET", "/api/state")
        waited = max(waited, time.monotonic() - begin)
        if status != 200:
            check(False, f"who means well is answered within {PATIENCE_S} s: {status}")
            return
        out = state["frames"]["out"]
        if out > last:
            last, news = out, time.monotonic()
        elif time.monotonic() - news > STILL_FOR_S:
            check(False, f"frames go on: {out} since {STILL_FOR_S} s")
            return
        status, _ = ask(port, "PATCH", "/api/params", b'{"fade": 3, "seed": 5, "show": "drawn"}')
        counts[f"good change: {status}"] += 1
        time.sleep(2)
    check(True, f"who means well waited at most {waited:.1f} s; {last} frames")


class Run:
    def __init__(self, program, folder):
        self.said_path, self.reports = folder / "said", folder / "asan"
        model = ROOT / "samples/models/paint-s"
        options = {"ASAN_OPTIONS": f"log_path={self.reports}:detect_leaks=1:quarantine_size_mb=16",
                   "LSAN_OPTIONS": f"suppressions={ROOT}/.ci/lsan.supp:print_suppressions=0:exitcode=130",
                   "UBSAN_OPTIONS": f"log_path={self.reports}:print_stacktrace=1"}
        self.process = subprocess.Popen(
            [program, "run", "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=8", "--realtime", "-o", "null", "-m", model,
             "--size", "64x64", "--more-steps", "43,47/50", "--control", "127.0.0.1:0", "--osc", "127.0.0.1:0"],
            stderr=open(self.said_path, "w"), stdout=subprocess.DEVNULL, env={**os.environ, **options}, cwd=folder)
        until = time.monotonic() + 300
        found = None
        while not found and time.monotonic() < until and self.process.poll() is None:
            time.sleep(0.2)
            found = re.search(r"http://127.0.0.1:(\d+)/", self.said())
        osc = re.search(r"OSC on udp 127.0.0.1:(\d+)", self.said())
        if not found or not osc:
            sys.exit(f"FAIL: the run does not start: {self.said()[-500:]}")
        self.port, self.osc = int(found[1]), int(osc[1])

    def said(self):
        return self.said_path.read_text(errors="replace")

    def memory_mib(self):
        return int(re.search(r"RssAnon:\s*(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def descriptors(self):
        folder = f"/proc/{self.process.pid}/fd"
        return [os.readlink(f"{folder}/{n}") for n in os.listdir(folder) if os.path.lexists(f"{folder}/{n}")]

    def end(self):
        begin = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        # Vulkan drivers leak by themselves; everything else counts, and leaks with our code on the stack.
        reports = [p.read_text(errors="replace") for p in self.reports.parent.glob("asan*")]
        bad = [r for r in reports if "ERROR: AddressSanitizer" in r or "runtime error" in r or
               any(f"{ROOT}/" in line and "__interceptor_" not in line for line in r.splitlines())]
        check(not bad, f"the sanitizers have nothing to say {bad[0][:3000] if bad else ''}")
        text = self.said()
        check(self.process.returncode == 130, f"exit status {self.process.returncode}: {text[-300:]}")
        adds = re.search(r"\n  frames: (\d+) in = (\d+) out \+ (\d+) dropped", text)
        check(adds and int(adds[1]) == int(adds[2]) + int(adds[3]) and "without a fate" not in text,
              f"frames add up: {adds and adds[0].strip()}")
        return time.monotonic() - begin


def main():
    program, seconds = os.path.abspath(sys.argv[1]), float(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with tempfile.TemporaryDirectory(prefix="l2d-fuzz-") as folder:
        run = Run(program, Path(folder))
        while (ask(run.port, "GET", "/api/state")[1] or {"frames": {"out": 99}})["frames"]["out"] < 5:
            time.sleep(0.5)
        files = len(run.descriptors())
        threads = [threading.Thread(target=be_hostile, args=(run.port, f"{seed} {i}")) for i in range(NUM_CLIENTS)]
        threads += [threading.Thread(target=be_slow, args=(run.port, f"{seed} slow")),
                    threading.Thread(target=send_osc, args=(run.osc, f"{seed} osc"))]
        for thread in threads:
            thread.start()
        mean_well(run.port, seconds / 3)
        memory = run.memory_mib()
        mean_well(run.port, 2 * seconds / 3)
        ending.set()
        for thread in threads:
            thread.join()
        added = [o["id"] for o in ask(run.port, "GET", "/api/state")[1]["outputs"] if o["id"] > 1]
        for number in added:
            ask(run.port, "DELETE", f"/api/outputs/{number}")
        until = time.monotonic() + 60
        while run.process.poll() is None and len(run.descriptors()) > files and time.monotonic() < until:
            time.sleep(0.5)
        if run.process.poll() is None:
            left, grown = run.descriptors(), run.memory_mib() - memory
            check(len(left) <= files, f"descriptors: {files} before, {len(left)} after{shown(left, files)}")
            check(grown < MOST_GROWTH_MIB, f"memory: {memory:.0f} MiB, and {grown:+.1f} in two thirds of the time")
        took = run.end()
        check(took < STOP_WITHIN_S, f"ended within {took:.1f} s")
    print(", ".join(f"{name}: {count}" for name, count in sorted(counts.items())))
    print(f"{failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
