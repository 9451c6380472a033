#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Live runs against a real server: nginx with its rtmp module, on a free port of this machine.

A clip whose pictures carry their number, with a beep each second, is published again and again;
live2diff pulls it, and pushes what comes out; the result is read back. Then everything that can
break does: the publisher goes, the server goes, a reader stops reading. Bounds are wide, for busy
machines: what is wrong is wrong by seconds, or for ever.

    live.py PROGRAM [NAME...]       runs the tests of these names, or all
"""
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

WIDTH, HEIGHT, FPS, RATE = 128, 96, 25, 44100
CELL = 16                       # pixels of a bit: 8 bits a row, in 4 rows; the last two the inverse
BEEP_EVERY = FPS                # frames
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


def make_clip(path, seconds):
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
                             "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", str(FPS),
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
    """Times at which beeps begin."""
    start = subprocess.run(["ffprobe", "-v", "error", "-select_streams", "a", "-show_entries", "packet=pts_time",
                            "-of", "csv=p=0", path], capture_output=True, text=True).stdout
    times = [float(t.strip(",")) for t in start.split() if t.strip(",") not in ("", "N/A")]
    if not times:
        return []
    raw = subprocess.run(FFMPEG + ["-i", path, "-map", "0:a", "-af", "aresample=async=1:first_pts=0", "-ac", "1",
                                   "-ar", "8000", "-f", "s16le", "-"], capture_output=True).stdout
    samples = struct.unpack(f"<{len(raw) // 2}h", raw[:len(raw) // 2 * 2])
    found, quiet = [], 8000
    for i in range(0, len(samples) - 40, 40):
        if max(abs(s) for s in samples[i:i + 40]) > 4000:
            if quiet > 1600:
                found.append(i / 8000)
            quiet = 0
        else:
            quiet += 40
    return found


def offsets(frames, beeps):
    """Sound minus picture, seconds, of each second's first picture that has a beep near by."""
    found = []
    seen = None
    for at, number in frames:
        if number is not None and number % BEEP_EVERY == 0 and number != seen:
            near = min(beeps, key=lambda b: abs(b - at), default=None)
            if near is not None and abs(near - at) < 0.4:
                found.append(near - at)
        seen = number if number is not None else seen
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
        module = next(p for p in ("/usr/lib/nginx/modules/ngx_rtmp_module.so", "") if not p or os.path.exists(p))
        with open(f"{name}/nginx.conf", "w") as f:
            f.write((f"load_module {module};\n" if module else "") + f"""
daemon off; master_process off; pid {name}.pid; error_log {name}.log error;
events {{ worker_connections 64; }}
rtmp {{ server {{ listen 127.0.0.1:{self.port}; chunk_size 4096; ping 3s; ping_timeout 3s;
    application in {{ live on; idle_streams off; drop_idle_publisher 5s; }}
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


def publish(url, form="flv"):
    return start(FFMPEG + ["-re", "-stream_loop", "-1", "-i", "clip.mp4", "-c", "copy", "-f", form, url],
                 stderr=subprocess.DEVNULL)


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
            check(live["given"] == live["written"] + live["stalled"] + live["lost"], f"{self.name}: {out['name']}: {live}")
        return report


def check_result(name, path, seconds, max_gap=0.6):
    """A recording of what came out: numbers in order, no gap, sound with its pictures."""
    frames = frames_of(path)
    check(len(frames) > 0.5 * seconds * FPS, f"{name}: {len(frames)} frames in {seconds:.0f} s")
    if not frames:
        return
    numbers = [n for _, n in frames if n is not None]
    check(len(numbers) > 0.9 * len(frames), f"{name}: {len(numbers)} of {len(frames)} pictures can be read")
    back = sum(1 for a, b in zip(numbers, numbers[1:]) if b < a and a - b < 20)
    check(back == 0, f"{name}: numbers go back {back} times but for the clip's own end")
    gap = max((b[0] - a[0] for a, b in zip(frames, frames[1:])), default=0)
    check(gap < max_gap, f"{name}: the longest gap in time is {gap:.2f} s")
    off = offsets(frames, beeps_of(path))
    check(len(off) >= 2, f"{name}: {len(off)} beeps with a picture")
    if off:
        worst = max(off, key=abs)
        check(abs(worst) <= 0.08, f"{name}: sound against picture, worst of {len(off)}: {1000 * worst:.0f} ms")


# ---- tests

def test_relay(server):
    """Pull, translate, push to two places and record; all agree."""
    feed = publish(server.url("in"))
    time.sleep(1)
    run = Run("relay", "-i", server.url("in"), "-o", server.url("out", "relay"), "-o", "relay.mp4", "-o", "relay.mkv")
    run.wait_frames()
    time.sleep(8)
    report = run.end()
    stop(feed)
    if report:
        latency = report["outputs"][0]["latency_ms"]
        check(0 < latency["p50"] < 1500, f"relay: latency {latency['p50']:.0f}/{latency['p95']:.0f}/{latency['p99']:.0f} ms")
    time.sleep(1)
    for path in ("relay.mp4", "relay.mkv"):
        check_result("relay: " + path, path, 8)
    pushed = [p for p in server.recordings() if "relay" in p]
    check(len(pushed) == 1, f"relay: {len(pushed)} recordings by the server")
    if pushed:
        check_result("relay: as pushed", pushed[0], 8)


TESTS = {"relay": test_relay}


def main():
    global program
    program = os.path.abspath(sys.argv[1])
    names = sys.argv[2:] or list(TESTS)
    scratch = tempfile.mkdtemp(prefix="l2d-live-")
    os.chdir(scratch)
    try:
        make_clip("clip.mp4", 20)
        server = Server("server")
        for name in names:
            TESTS[name](server)
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


if __name__ == "__main__":
    sys.exit(main())
