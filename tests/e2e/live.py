#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Live runs against a real server: nginx with its rtmp module, on a free port of this machine.

A clip whose pictures carry their number, with a beep each second, is published again and again;
live2diff pulls it, and pushes what comes out; the result is read back. Then everything that can
break does: the publisher goes, the server goes, a reader stops reading. Bounds are wide, for busy
machines: what is wrong is wrong by seconds, or for ever.

    live.py PROGRAM [NAME...]       runs the tests of these names, or all, two at a time; $L2D_KEEP keeps their files
"""
import concurrent.futures
import glob
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

WIDTH, HEIGHT, FPS, RATE = 128, 96, 25, 44100
CELL = 16                       # pixels of a bit: 8 bits a row, in 4 rows; the last two the inverse
BEEP_EVERY = FPS                # frames
NGINX_RTMP = "/usr/lib/nginx/modules/ngx_rtmp_module.so"
MOST_OFFSET = 0.045             # s, sound against picture; a beep is found to 5 ms
FFMPEG = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-y"]
failures = 0
children = []


def check(ok, what):
    global failures
    print(("ok: " if ok else "FAIL: ") + what, flush=True)
    failures += not ok


# ---- the clip: numbers in pictures, beeps in sound

def picture(number):
    bits = (number & 0xffff) << 16 | (~number & 0xffff)
    rows = []
    for line in range(4):
        row = b"".join((b"\xeb" if bits >> (31 - 8 * line - i) & 1 else b"\x10") * CELL for i in range(8))
        rows.append(row * CELL)
    luma = b"".join(rows).ljust(WIDTH * HEIGHT, b"\x50")
    return luma + b"\x80" * (WIDTH * HEIGHT // 2)


def number_of(luma):
    """The number in a picture; None where it cannot be read."""
    bits = 0
    for line in range(4):
        for i in range(8):
            at = (line * CELL + CELL // 2) * WIDTH + i * CELL + CELL // 2
            bits = bits << 1 | (luma[at] > 128)
    number, inverse = bits >> 16, bits & 0xffff
    return number if number ^ inverse == 0xffff else None


def make_clip(path, seconds, key_every=FPS):
    frames = seconds * FPS
    with open("clip.yuv", "wb") as f:
        for n in range(frames):
            f.write(picture(n))
    beep, rest = RATE // 25, RATE - RATE // 25
    tone = b"".join(struct.pack("<h", 12000 if i // 22 % 2 else -12000) for i in range(beep))
    with open("clip.pcm", "wb") as f:
        f.write((tone + b"\0\0" * rest) * seconds)
    subprocess.run(FFMPEG + ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS),
                             "-i", "clip.yuv", "-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "clip.pcm",
                             "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", str(key_every),
                             "-c:a", "aac", path], check=True)


def frames_of(path):
    """[(time, number)] of a video file."""
    times = subprocess.run(["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "frame=pts_time",
                            "-of", "csv=p=0", path], capture_output=True, text=True).stdout
    times = [float(t.strip(",")) for t in times.split() if t.strip(",") not in ("", "N/A")]
    raw = subprocess.run(FFMPEG + ["-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"],
                         capture_output=True).stdout
    size = WIDTH * HEIGHT
    numbers = [number_of(raw[i * size:(i + 1) * size]) for i in range(len(raw) // size)]
    return list(zip(times, numbers))


def beeps_of(path):
    """Times at which beeps begin, by the times of the decoded frames they are in."""
    told = subprocess.run(["ffprobe", "-v", "error", "-select_streams", "a", "-show_entries",
                           "frame=pts_time,nb_samples", "-of", "csv=p=0", path], capture_output=True, text=True).stdout
    frames = [line.strip(",").split(",") for line in told.split()]
    frames = [(float(f[0]), int(f[1])) for f in frames if len(f) == 2 and f[0] != "N/A"]
    raw = subprocess.run(FFMPEG + ["-i", path, "-map", "0:a", "-ac", "1", "-ar", str(RATE), "-f", "s16le", "-"],
                         capture_output=True).stdout
    samples = struct.unpack(f"<{len(raw) // 2}h", raw[:len(raw) // 2 * 2])
    found, quiet, at, step = [], 1.0, 0, RATE // 200
    for begin, count in frames:
        for i in range(at, min(at + count, len(samples)), step):
            if max(map(abs, samples[i:min(i + step, at + count)]), default=0) > 4000:
                if quiet > 0.2:
                    found.append(begin + (i - at) / RATE)
                quiet = 0
            else:
                quiet += step / RATE
        at += count
    return found


def offsets(frames, beeps):
    """Sound minus picture, seconds, of each second's first picture that was kept: its number tells when its second
    began, and there is its beep."""
    found = []
    seen = None
    for at, number in frames:
        if number is None or number // BEEP_EVERY == seen:
            continue
        seen = number // BEEP_EVERY
        began = at - number % BEEP_EVERY / FPS
        near = min(beeps, key=lambda b: abs(b - began), default=None)
        if near is not None and abs(near - began) < 0.4:
            found.append(near - began)
    return found


# ---- processes

def start(args, **options):
    process = subprocess.Popen(args, stdin=subprocess.DEVNULL, **options)
    children.append(process)
    return process


def stop(process, how=signal.SIGTERM):
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, seconds, condition):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.1)
    check(False, f"{what}: not within {seconds} s")
    return False


class Server:
    def __init__(self, name):
        self.name, self.port = name, free_port()
        os.makedirs(name, exist_ok=True)
        with open(f"{name}/nginx.conf", "w") as f:
            f.write(f"""load_module {NGINX_RTMP};
daemon off; master_process off; pid {name}.pid; error_log {name}.log error;
events {{ worker_connections 64; }}
rtmp {{ server {{ listen 127.0.0.1:{self.port}; chunk_size 4096; ping 3s; ping_timeout 3s;
    application in {{ live on; idle_streams off; drop_idle_publisher 5s; }}
    application idle {{ live on; idle_streams on; }}
    application out {{ live on; record all; record_path {os.getcwd()}/{name}; record_unique on; }} }} }}
""")
        self.process = None
        self.start()

    def start(self):
        self.process = start(["/usr/sbin/nginx", "-p", os.getcwd(), "-c", f"{os.getcwd()}/{self.name}/nginx.conf"])
        wait_for(f"server {self.name} listens", 10, self.listens)

    def listens(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        stop(self.process, signal.SIGKILL)

    def url(self, application, stream="s"):
        return f"rtmp://127.0.0.1:{self.port}/{application}/{stream}"

    def recordings(self):
        files = [os.path.join(self.name, f) for f in os.listdir(self.name) if f.endswith(".flv")]
        return sorted(files, key=os.path.getmtime)


def publish(url, form="flv", rate=None, length=None):
    """The clip again and again; with a rate it has so few frames a second. length: what it says it will take."""
    codec = ["-r", str(rate), "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", str(rate)]
    return start(FFMPEG + ["-re", "-stream_loop", "-1", "-i", "clip.mp4", "-c", "copy", *(codec if rate else []),
                           *(["-t", str(length)] if length else []), "-f", form, url], stderr=subprocess.DEVNULL)


class Run:
    """live2diff at work; what it says is kept."""

    def __init__(self, name, *args):
        self.name, self.report = name, f"{name}.json"
        self.said_path = f"{name}.said"
        self.process = start([program, "run", "--passthrough", "--json", self.report, *args],
                             stderr=open(self.said_path, "w"), stdout=subprocess.DEVNULL)

    def said(self):
        with open(self.said_path, errors="replace") as f:
            return f.read()

    def wait_frames(self, seconds=30):
        """Until frames have come out."""
        return wait_for(f"{self.name}: frames come out", seconds,
                        lambda: re.search(r"= [1-9][0-9]* out", self.said()) or self.process.poll() is not None)

    def wait_said(self, text, seconds=30):
        return wait_for(f"{self.name}: says '{text}'", seconds, lambda: text in self.said())

    def end(self):
        """SIGINT; the report. The time to the end is checked."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        took = time.monotonic() - begin
        check(self.process.returncode == 130, f"{self.name}: exit status {self.process.returncode}, wanted 130")
        check(took < 4, f"{self.name}: stopped within {took:.1f} s")
        if not os.path.exists(self.report):
            check(False, f"{self.name}: no report: {self.said()[-800:]}")
            return None
        with open(self.report) as f:
            report = json.load(f)
        frames = report["frames"]
        drops = frames["dropped"]
        total = frames["out"] + sum(drops.values())
        check(frames["in"] == total and frames["unaccounted"] == 0,
              f"{self.name}: {frames['in']} in = {frames['out']} out + {drops}, {frames['held']} held")
        for out in report["outputs"]:
            live = out["live"]
            check(live["given"] == live["written"] + live["stalled"] + live["lost"],
                  f"{self.name}: {out['name']}: {live}")
        return report


def check_result(name, report, path, seconds, beeps=2, max_gap=1.5):
    """A recording of what came out: numbers in order, no gap, sound with its pictures."""
    frames = frames_of(path)
    check(len(frames) > 2 * seconds, f"{name}: {len(frames)} frames in {seconds:.0f} s")
    if not frames:
        return
    numbers = [n for _, n in frames if n is not None]
    check(len(numbers) > 0.9 * len(frames), f"{name}: {len(numbers)} of {len(frames)} pictures can be read")
    back = sum(1 for a, b in zip(numbers, numbers[1:]) if b < a and a - b < 20)
    losses = report["input"]["losses"]          # after which the clip is published from its beginning
    check(back <= losses, f"{name}: numbers go back {back} times but for the clip's own end; {losses} losses")
    # How long a picture takes here and now decides; the first ones, with all that has to be set up, do not count.
    max_gap = max(max_gap, 5 * report["interval_ms"]["p95"] / 1000)
    gap, where = max(((b[0] - a[0], a[0]) for a, b in zip(frames[5:], frames[6:])), default=(0, 0))
    check(gap < max_gap, f"{name}: the longest gap is {gap:.2f} s, at {where:.2f} s of {frames[-1][0]:.2f} s")
    off = offsets(frames, beeps_of(path))
    check(len(off) >= beeps, f"{name}: {len(off)} beeps with a picture")
    if off:
        worst = max(off, key=abs)
        check(abs(worst) <= MOST_OFFSET, f"{name}: sound against picture, worst of {len(off)}: {1000 * worst:.0f} ms")


# ---- tests

def test_relay():
    """Pull, translate, push to two places and record; all agree."""
    server = Server("relay")
    feed = publish(server.url("in"))
    time.sleep(1)
    run = Run("relay", "-i", server.url("in"), "-o", server.url("out", "relay"), "-o", "relay.mp4", "-o", "relay.mkv")
    run.wait_frames()
    time.sleep(8)
    report = run.end()
    stop(feed)
    if report:
        latency = report["outputs"][0]["latency_ms"]
        check(0 < latency["p50"] < 1500, f"relay: latency, ms: {latency}")
    if not report:
        return
    time.sleep(1)
    for path in ("relay.mp4", "relay.mkv"):
        check_result("relay: " + path, report, path, 8)
    pushed = [p for p in server.recordings() if "relay" in p]
    check(len(pushed) == 1, f"relay: {len(pushed)} recordings by the server")
    if pushed:
        check_result("relay: as pushed", report, pushed[0], 8)


def test_setup():
    """What comes while the run is set up, here until somebody reads a pipe, is old when it begins."""
    server = Server("setup")
    feed = publish(server.url("in"))
    os.mkfifo("setup.y4m")
    time.sleep(1)
    run = Run("setup", "-i", server.url("in"), "-f", "yuv4mpegpipe", "-o", "setup.y4m", "-o", "setup.mkv")
    time.sleep(12)
    reader = start(["cat", "setup.y4m"], stdout=subprocess.DEVNULL)
    run.wait_frames()
    time.sleep(4)
    report = run.end()
    stop(reader)
    stop(feed)
    if not report:
        return
    drops, times = report["frames"]["dropped"], [t for t, _ in frames_of("setup.mkv")]
    check(drops["backlog"] > 4 * FPS, f"setup: left out what was old: {drops}")
    gap = max((b - a for a, b in zip(times, times[1:])), default=99)
    check(gap < 1.5, f"setup: the longest gap in time is {gap:.2f} s")


def test_wait():
    """A source that is not there yet: one line, or with --wait it is waited for, and a signal ends that."""
    url = f"rtmp://127.0.0.1:{free_port()}/in/s"
    for options, tries in ((), 0), (("--wait=1",), 1):
        run = subprocess.run([program, "run", "--passthrough", "-i", url, *options, "-o", "null"], capture_output=True,
                             text=True, timeout=60)
        lines = run.stderr.splitlines()
        check(run.returncode == 1 and len(lines) == tries + 1 and f"{url}: Connection refused" in lines[-1] and
              run.stderr.count("waiting for it") == tries, f"wait: {options}: {run.returncode}, {lines}")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for scheme in "rtmp", "rtsp":
            url_out = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/a/b"
            run = start([program, "run", "--passthrough", "--realtime", "-f", "lavfi", "-i", "testsrc2=size=64x64",
                         "-o", "null", "-o", url_out], stderr=subprocess.PIPE, text=True)
            time.sleep(4)
            run.send_signal(signal.SIGINT)
            said = run.communicate(timeout=20)[1]
            check(run.returncode == 1 and said.endswith(f"{url_out}: no answer\n"), f"wait: silent: {said[-200:]}")
    server = Server("wait")
    run = Run("wait", "-i", server.url("in"), "--wait", "-o", "wait.mkv")
    run.wait_said("waiting for it")
    check("the server refuses it" in run.said(), f"wait: no such stream: {run.said()[-300:]}")
    stopped = Run("wait-stopped", "-i", url, "--wait", "-o", "wait-stopped.mkv")
    stopped.wait_said("waiting for it")
    begin = time.monotonic()
    stopped.process.send_signal(signal.SIGINT)
    status = stopped.process.wait(20)
    check(status == 130 and not os.path.exists("wait-stopped.mkv"), f"wait: stopped by a signal: {status}")
    check(time.monotonic() - begin < 2, f"wait: stopped within {time.monotonic() - begin:.2f} s")
    feed = publish(server.url("in"))
    run.wait_said("there now", 60)
    run.wait_frames()
    time.sleep(3)
    report = run.end()
    stop(feed)
    if report:
        check(report["input"]["losses"] == 0, f"wait: {report['input']}")
        check_result("wait", report, "wait.mkv", 3, beeps=1)


def test_few():
    """A source of few frames a second is back soon: its rate is not measured again."""
    server = Server("few")
    feed = publish(server.url("in"), rate=2)
    time.sleep(1)
    run = Run("few", "-i", server.url("in"), "-o", "few.mkv")
    run.wait_frames(60)
    stop(feed, signal.SIGKILL)
    run.wait_said("lost (")
    feed = publish(server.url("in"), rate=2)
    begin = time.monotonic()
    run.wait_said("running again", 40)
    took = time.monotonic() - begin
    check(took < 15, f"few: back after {took:.1f} s")
    run.end()
    stop(feed)


def source_goes(server, application):
    name = f"source-{application}"
    feed = publish(server.url(application))
    time.sleep(1)
    run = Run(name, "-i", server.url(application), "-o", f"{name}.mkv")
    run.wait_frames()
    time.sleep(3)
    stop(feed, signal.SIGKILL)
    time.sleep(4)
    feed = publish(server.url(application))
    if application == "in":
        run.wait_said("running again")
    time.sleep(6)
    report = run.end()
    stop(feed)
    if not report:
        return
    check(report["frames"]["held"] > 20, f"{name}: {report['frames']['held']} pictures held")
    if application == "in":
        check(report["input"]["losses"] == 1, f"{name}: lost {report['input']['losses']} times")
    check_result(name, report, f"{name}.mkv", 13)
    numbers = [n for _, n in frames_of(f"{name}.mkv")]
    check(len(set(numbers[-50:])) > 10, f"{name}: pictures move again at the end")


def test_source():
    """The publisher goes and comes back; the server tells its readers."""
    source_goes(Server("source"), "in")


def test_idle():
    """The same, and the server keeps silent."""
    source_goes(Server("idle"), "idle")


def test_server():
    """An output's server dies and comes back: the other output and the input do not notice."""
    server = Server("server")
    other = Server("other")
    feed = publish(server.url("in"))
    time.sleep(1)
    run = Run("server", "-i", server.url("in"), "-o", other.url("out", "a"), "-o", server.url("out", "b"),
              "-o", "server.mkv")
    run.wait_frames()
    time.sleep(3)
    other.stop()
    time.sleep(4)
    other.start()
    run.wait_said("running again")
    time.sleep(5)
    report = run.end()
    stop(feed)
    other.stop()
    if not report:
        return
    dead, alive, file = report["outputs"]
    check(dead["live"]["losses"] >= 1 and dead["live"]["lost"] > 20, f"server: the dead one: {dead['live']}")
    check(report["input"]["losses"] == 0, "server: the input is not touched")
    for out in (alive, file):
        check(out["live"]["losses"] == 0 and out["live"]["stalled"] + out["live"]["lost"] < 10,
              f"server: {out['name']}: {out['live']}")
    check_result("server: the file", report, "server.mkv", 12)
    parts = other.recordings()
    check(len(parts) == 2, f"server: {len(parts)} recordings, before and after")
    if len(parts) == 2:
        kept = sum(map(os.path.getsize, parts))
        check(dead["bytes"] > 0.9 * kept, f"server: {dead['bytes']} bytes, {kept} of them in its recordings")
        first = subprocess.run(["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "packet=flags",
                                "-of", "csv=p=0", parts[1]], capture_output=True, text=True).stdout.split()
        check(bool(first) and first[0].startswith("K"), "server: it goes on with a key frame")
        check_result("server: what came after", report, parts[1], 4)


def test_both():
    """The server of the input and of an output dies and comes back."""
    server = Server("both")
    feed = publish(server.url("in"))
    time.sleep(1)
    run = Run("both", "-i", server.url("in"), "-o", server.url("out", "both"), "-o", "both.mkv", "--on-loss", "slate")
    run.wait_frames()
    time.sleep(2)
    server.stop()
    time.sleep(3)
    stop(feed, signal.SIGKILL)
    server.start()
    feed = publish(server.url("in"))
    wait_for("both: input and output run again", 40, lambda: run.said().count("running again") >= 2)
    time.sleep(4)
    report = run.end()
    stop(feed)
    if report:
        check(report["input"]["losses"] >= 1 and report["outputs"][0]["live"]["losses"] >= 1, "both: both were lost")
        frames = frames_of("both.mkv")
        gap = max((b[0] - a[0] for a, b in zip(frames, frames[1:])), default=9)
        check(gap < 1.5, f"both: the longest gap in time is {gap:.2f} s")
        check(sum(1 for _, n in frames if n is None) > 20, "both: the slate is seen")
        worst = max(offsets(frames, beeps_of("both.mkv")), key=abs, default=9)
        check(abs(worst) <= MOST_OFFSET, f"both: sound against picture, at worst {1000 * worst:.0f} ms")


def test_stall():
    """A reader that stops reading: it loses pictures, nobody else does, and nothing waits for it."""
    server = Server("stall")
    feed = publish(server.url("in"))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    listener.listen(4)
    listener.settimeout(30)
    stalled = f"tcp://127.0.0.1:{listener.getsockname()[1]}?send_buffer_size=8192"
    time.sleep(1)
    run = Run("stall", "-i", server.url("in"), "-f", "yuv4mpegpipe", "-o", stalled, "-o", "stall.mkv")
    first, _ = listener.accept()
    run.wait_frames()
    time.sleep(4)
    wait_for("stall: the writer gives it up", 30, lambda: "taken nothing for 10 s" in run.said())
    second, _ = listener.accept()
    got = len(second.recv(65536))
    second.settimeout(10)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        got += len(second.recv(1 << 20))
    check(got > 10000, f"stall: {got} bytes after it came back")
    time.sleep(5)                       # and it stalls again: the end must not wait for it
    report = run.end()
    stop(feed)
    first.close()
    second.close()
    listener.close()
    if not report:
        return
    bad, good = report["outputs"]
    check(bad["live"]["stalled"] > 20 and bad["live"]["losses"] >= 1, f"stall: the stalled one: {bad['live']}")
    check(good["live"]["stalled"] + good["live"]["lost"] == 0, f"stall: the file: {good['live']}")
    check(good["latency_ms"]["p95"] < 1000, f"stall: the file's latency {good['latency_ms']}")
    check_result("stall: the file", report, "stall.mkv", 15)


def test_srt():
    """SRT, with live2diff listening at one end; both ends go and come back."""
    into, out = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)

    def receive(path):
        return start(FFMPEG + ["-i", f"srt://127.0.0.1:{out}?mode=listener", "-c", "copy", path],
                     stderr=subprocess.DEVNULL)

    receiver = receive("srt-1.mkv")
    run = Run("srt", "--listen", "-i", f"srt://127.0.0.1:{into}", "-o", f"srt://127.0.0.1:{out}", "-o", "srt.mkv")
    time.sleep(2)
    feed = publish(f"srt://127.0.0.1:{into}", "mpegts")
    run.wait_frames()
    time.sleep(4)
    stop(feed, signal.SIGKILL)
    run.wait_said("lost (")
    time.sleep(1)
    feed = publish(f"srt://127.0.0.1:{into}", "mpegts")
    wait_for("srt: the source is back", 30, lambda: re.search(r"source:.*running again", run.said()))
    stop(receiver)
    run.wait_said("trying again", 20)
    receiver = receive("srt-2.mkv")
    wait_for("srt: the receiver is back", 40,
             lambda: re.search(f":{out}: running again", run.said()))
    time.sleep(4)
    report = run.end()
    time.sleep(1)
    stop(receiver)
    stop(feed)
    if report:
        check(report["input"]["losses"] >= 1, f"srt: the source was lost {report['input']['losses']} times")
        check(report["outputs"][0]["live"]["losses"] >= 1, f"srt: the receiver: {report['outputs'][0]['live']}")
        check_result("srt: the file", report, "srt.mkv", 8)
        check_result("srt: after the receiver came back", report, "srt-2.mkv", 2, beeps=1)


def test_listen():
    """live2diff is the RTMP server; its publisher goes and comes back."""
    url = f"rtmp://127.0.0.1:{free_port()}/live/s"
    run = Run("listen", "--listen", "-i", url, "-o", "listen.mkv")
    time.sleep(2)
    feed = publish(url)
    run.wait_frames()
    time.sleep(3)
    stop(feed, signal.SIGKILL)
    run.wait_said("lost (")
    time.sleep(2)
    feed = publish(url, length=600)
    run.wait_said("running again")
    time.sleep(4)
    report = run.end()
    stop(feed)
    if report:
        check(report["input"]["losses"] == 1, f"listen: lost {report['input']['losses']} times")
        check(report["frames"]["held"] > 10, f"listen: {report['frames']['held']} pictures held")
        check_result("listen", report, "listen.mkv", 8)


def test_overload():
    """Work that takes longer than the source waits: pictures are dropped, and latency does not grow."""
    found = {}
    for frames in (300, 1000):
        report = f"overload-{frames}.json"
        run = subprocess.run([program, "run", "--realtime", "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=100",
                              "-o", "null", "--passthrough", "--size", "720x404", "-n", str(frames),
                              "--json", report, "-q"], stderr=subprocess.PIPE)
        check(run.returncode == 0, f"overload: exit status {run.returncode} {run.stderr.decode()[-300:]}")
        with open(report) as f:
            found[frames] = json.load(f)
        counts = found[frames]["frames"]
        check(counts["in"] == counts["out"] + sum(counts["dropped"].values()) and counts["unaccounted"] == 0,
              f"overload: {counts}")
    counts, latency = found[1000]["frames"], found[1000]["outputs"][0]["latency_ms"]
    interval, before = 1000 / found[1000]["fps"], found[300]["outputs"][0]["latency_ms"]
    check(counts["dropped"]["late"] > 25, f"overload: {counts['dropped']['late']} of {counts['in']} frames too late")
    # One picture waits for at most one interval, and is drawn in another.
    check(latency["p50"] < 4 * interval, f"overload: latency {latency}, {interval:.0f} ms between pictures")
    check(latency["p50"] < 2 * before["p50"] + 100, f"overload: latency of the first 3 s was {before}")


def test_deadline():
    """A deadline that nothing meets: fewer steps, down to the fewest; then by hand, which comes first."""
    run = subprocess.Popen([program, "run", "--realtime", "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25", "-o",
                            "null", "--size", "64x64", "--steps", "40,44,46,48/50", "--more-steps", "43/50",
                            "--more-steps", "43,47/50", "--deadline", "0.1", "--control", "127.0.0.1:0", "--json",
                            "deadline.json"], stderr=open("deadline.said", "w"), stdout=subprocess.DEVNULL)
    children.append(run)

    def said():
        with open("deadline.said", errors="replace") as f:
            return f.read()

    def ask(path, body=None):
        address = re.search(r"control: http://(\S+:\d+)/", said())[1]
        request = urllib.request.Request(f"http://{address}{path}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    if wait_for("deadline: the control", 120, lambda: "control: http" in said()):
        wait_for("deadline: down to one step", 200, lambda: said().count("steps: 1, were 2; ") == 1)
        wait_for("deadline: drawn with one", 60, lambda: ask("/api/state")["engine"]["steps"] == 1)
        out = ask("/api/state")["frames"]["out"]
        wait_for("deadline: goes on", 60, lambda: ask("/api/state")["frames"]["out"] > out + 5)
        check(ask("/api/state")["params"]["steps"] == "40,44,46,48/50", "deadline: what is asked for stays")
        ask("/api/params", json.dumps({"steps": "43,47/50"}).encode())
        wait_for("deadline: again, from two by hand", 200, lambda: said().count("steps: 1, were 2; ") == 2)
    stop(run, signal.SIGINT)
    check(run.returncode == 130, f"deadline: exit status {run.returncode}")
    check("steps: 2, were 4; " in said(), "deadline: one set at a time")
    with open("deadline.json") as f:
        report = json.load(f)
    counts, deadline = report["frames"], report["live"]["deadline"]
    check(counts["in"] == counts["out"] + sum(counts["dropped"].values()) and counts["unaccounted"] == 0,
          f"deadline: {counts}")
    check(deadline["changes"] == 3 and set(deadline["frames"]) == {"1", "2", "4"}, f"deadline: {deadline}")


def test_hls():
    """A live playlist over HTTP comes in pieces; it is read at its pace."""
    os.makedirs("hls", exist_ok=True)
    feed = start(FFMPEG + ["-re", "-stream_loop", "-1", "-i", "clip.mp4", "-c", "copy", "-f", "hls", "-hls_time", "1",
                           "-hls_flags", "delete_segments", "hls/x.m3u8"], stderr=subprocess.DEVNULL)
    port = free_port()
    web = start([sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", "hls"],
                stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for("hls: a playlist", 20, lambda: os.path.exists("hls/x3.ts"))
    run = Run("hls", "-i", f"http://127.0.0.1:{port}/x.m3u8", "-o", "hls.mkv")
    run.wait_frames()
    time.sleep(8)
    report = run.end()
    stop(feed)
    stop(web)
    if report:
        check_result("hls", report, "hls.mkv", 8)
        check(report["frames"]["out"] < 20 * FPS, f"hls: {report['frames']['out']} frames, not all at once")


class TlsFront:
    """What comes encrypted goes on to a port of this machine in the clear, and back."""

    def __init__(self, port):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days",
                        "2", "-keyout", "tls.key", "-out", "tls.crt"], check=True, capture_output=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain("tls.crt", "tls.key")
        self.behind = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            plain, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(plain,), daemon=True).start()

    def serve(self, plain):
        """One connection: a record may hold more than what was asked for, so that is looked for first."""
        try:
            with self.context.wrap_socket(plain, server_side=True) as outer, \
                    socket.create_connection(("127.0.0.1", self.behind)) as inner:
                while True:
                    ready = [outer] if outer.pending() else select.select([outer, inner], [], [])[0]
                    for one, other in ((outer, inner), (inner, outer)):
                        if one in ready:
                            data = one.recv(65536)
                            if not data:
                                return
                            other.sendall(data)
        except OSError:
            pass


def test_rtmps():
    """RTMP through TLS, both ways, as the large services want it."""
    if not shutil.which("openssl"):
        print("SKIPPED: rtmps: openssl is not there")
        return
    server = Server("rtmps")
    front = TlsFront(server.port)
    feed = publish(server.url("in"))
    time.sleep(1)
    url = f"rtmps://127.0.0.1:{front.port}"
    run = Run("rtmps", "-i", f"{url}/in/s", "-o", f"{url}/out/rtmps")
    run.wait_frames()
    time.sleep(6)
    report = run.end()
    stop(feed)
    time.sleep(1)
    pushed = server.recordings()
    check(len(pushed) == 1, f"rtmps: {len(pushed)} recordings by the server")
    if report and pushed:
        check_result("rtmps", report, pushed[0], 6)


def test_rtsp():
    """RTSP, both ways: a sender that records to us, and we to a receiver."""
    into, out = (f"rtsp://127.0.0.1:{free_port()}/s" for _ in range(2))
    receiver = start(FFMPEG + ["-rtsp_flags", "listen", "-i", out, "-c", "copy", "rtsp.mkv"],
                     stderr=subprocess.DEVNULL)
    run = Run("rtsp", "--listen", "-i", into, "-f", "rtsp", "-o", out, "-o", "rtsp-in.mkv")
    time.sleep(2)
    feed = start(FFMPEG + ["-re", "-stream_loop", "-1", "-i", "clip.mp4", "-c", "copy", "-f", "rtsp",
                           "-rtsp_transport", "tcp", into], stderr=subprocess.DEVNULL)
    run.wait_frames()
    time.sleep(6)
    report = run.end()
    stop(feed)
    time.sleep(1)
    stop(receiver)
    if report:
        check_result("rtsp: as received", report, "rtsp-in.mkv", 5)
        check_result("rtsp", report, "rtsp.mkv", 5)


def test_udp():
    """MPEG-TS in datagrams, both ways, and a playlist for browsers."""
    into, out = (f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}" for _ in range(2))
    receiver = start(FFMPEG + ["-i", f"{out}?timeout=3000000", "-c", "copy", "udp.mkv"], stderr=subprocess.DEVNULL)
    os.makedirs("udp", exist_ok=True)
    feed = publish(f"{into}?pkt_size=1316", "mpegts")
    run = Run("udp", "-i", into, "-f", "mpegts", "-o", f"{out}?pkt_size=1316", "-o", "udp/x.m3u8")
    run.wait_frames()
    time.sleep(6)
    report = run.end()
    stop(feed)
    receiver.wait(20)                   # until nothing has come for three seconds
    if report:
        check_result("udp", report, "udp.mkv", 5)
        check_result("udp: the playlist", report, "udp/x.m3u8", 5)


def test_codec():
    """Another sender goes on at once, to the same port, with another codec."""
    into = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    feed = publish(f"{into}?pkt_size=1316", "mpegts")
    run = Run("codec", "-i", into, "-o", "codec.mkv")
    run.wait_frames()
    time.sleep(2)
    stop(feed)
    feed = start(FFMPEG + ["-re", "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25", "-c:v", "mpeg2video", "-g", "12",
                           "-f", "mpegts", f"{into}?pkt_size=1316"], stderr=subprocess.DEVNULL)
    run.wait_said("gives no whole picture any more")
    run.wait_said("running again")
    time.sleep(2)
    report = run.end()
    stop(feed)
    if report:
        check(report["input"]["losses"] == 1, f"codec: lost {report['input']['losses']} times")
        check(report["frames"]["out"] > 4 * FPS, f"codec: {report['frames']}")


def test_camera():
    """A loopback camera, where the kernel has one: one run writes it, another reads it."""
    found = [f"/dev/{os.path.basename(path)}" for path in sorted(glob.glob("/sys/devices/virtual/video4linux/video*"))]
    device = next((path for path in found if os.access(path, os.R_OK | os.W_OK)), None)
    if not device:
        print("skipped: camera: no loopback camera here (apt install v4l2loopback-dkms)", flush=True)
        return
    writer = Run("camera-out", "--realtime", "-i", "clip.mp4", "-o", device)
    writer.wait_frames()
    reader = Run("camera-in", "-i", device, "-o", "camera.mkv")
    reader.wait_frames()
    time.sleep(5)
    reader.end()
    writer.end()
    numbers = [n for _, n in frames_of("camera.mkv") if n is not None]
    check(len(numbers) > 2 * FPS, f"camera: {len(numbers)} pictures that can be read")
    check(all(a <= b for a, b in zip(numbers, numbers[1:])), "camera: in order")


TESTS = {"relay": test_relay, "setup": test_setup, "wait": test_wait, "few": test_few, "source": test_source,
         "idle": test_idle, "server": test_server, "both": test_both, "stall": test_stall, "srt": test_srt,
         "hls": test_hls, "listen": test_listen, "overload": test_overload, "deadline": test_deadline,
         "rtmps": test_rtmps, "rtsp": test_rtsp, "udp": test_udp, "codec": test_codec, "camera": test_camera}
WITHOUT_SERVER = {"camera", "srt", "hls", "listen", "overload", "deadline", "rtsp", "udp", "codec"}


def run_tests(tests, names, clip):
    """Two at a time, which wait most of the time, in a folder of their own that has the clip: make_clip's further
    arguments. returns the exit status."""
    scratch = tempfile.mkdtemp(prefix="l2d-live-")
    os.chdir(scratch)
    try:
        make_clip("clip.mp4", *clip)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(tests[name]) for name in names]:
                done.result()
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
        os.chdir("/")
        if not os.environ.get("L2D_KEEP"):
            shutil.rmtree(scratch)
        else:
            print("kept:", scratch)
    print(f"{failures} failures")
    return 1 if failures else 0


def lacks_server(names, without):
    """Whether a test needs nginx and it is not there."""
    lacks = not without.issuperset(names) and not os.path.exists(NGINX_RTMP)
    if lacks:
        print("SKIPPED: nginx's rtmp module is not there; tools/setup --ci installs it")
    return lacks


def main():
    global program
    program = os.path.abspath(sys.argv[1])
    names = sys.argv[2:] or list(TESTS)
    return 77 if lacks_server(names, WITHOUT_SERVER) else run_tests(TESTS, names, [20])


if __name__ == "__main__":
    sys.exit(main())
