#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Live runs over a bad network: 200 ms each way, 2 % loss, stalls and cuts, by tests/support/bad_network.c.

live2diff pulls and pushes through it, over RTMP and over SRT; what arrives behind it is read back. The promises of
docs/reliability.md hold there too. The harness is that of live.py.

    bad_network.py PROGRAM NETWORK [NAME...]        runs the tests of these names, or all, two at a time
"""
import os
import statistics
import subprocess
import sys
import threading
import time

import live
from live import FPS, HEIGHT, WIDTH, check, wait_for

DELAY_MS, LOSS_PERCENT = 200, 2
CLIP_S = 45
MOST_GROWTH_S = 1.5         # of the latency from end to end, between the first seconds and the last; wide, for busy
                            # machines: what grows, grows by more
STOP_WITHIN_S = 2
STILL_S = 2                 # nothing passes, for so long
BUFFER_MS = 1000            # two round trips, in which a lost packet comes again


class Network:
    """The program between 127.0.0.1:port and :target."""

    def __init__(self, kind, port, target, seed=1):
        self.port = port
        self.process = subprocess.Popen([network, kind, str(port), str(target), str(DELAY_MS), str(LOSS_PERCENT),
                                         str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        live.children.append(self.process)
        check(self.process.stdout.readline() == b"ready\n", f"{kind}: the network is there")

    def be(self, weather):
        self.process.stdin.write(weather.encode() + b"\n")
        self.process.stdin.flush()


class Watcher(threading.Thread):
    """Decodes what arrives, and notes when: [(time, number)]."""

    def __init__(self, *source):
        super().__init__(daemon=True)
        self.seen = []
        self.process = live.start(live.FFMPEG + ["-fflags", "nobuffer", *source, "-map", "0:v", "-fps_mode",
                                                 "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"],
                                  stdout=subprocess.PIPE, stderr=open(f"watcher-{len(live.children)}.said", "w"))
        self.start()

    def run(self):
        size = WIDTH * HEIGHT
        while len(data := self.process.stdout.read(size)) == size:
            number = live.number_of(data)
            if number is not None:
                self.seen.append((time.monotonic(), number))

    def lag(self, begin, end):
        """How late pictures are in these seconds of time.monotonic(), the median: it has an offset, the same for all
        of one publisher, as that sends at its pace."""
        late = [(at - number / FPS) % CLIP_S for at, number in self.seen if begin <= at < end]
        if not late:
            return None
        near = late[0]              # around the circle of the clip
        return statistics.median(near + (x - near + CLIP_S / 2) % CLIP_S - CLIP_S / 2 for x in late)


def check_growth(name, first, last):
    if first is None or last is None:
        check(False, f"{name}: pictures arrive: {first}, {last}")
        return
    growth = (last - first + CLIP_S / 2) % CLIP_S - CLIP_S / 2
    check(growth < MOST_GROWTH_S, f"{name}: the latency has grown by {1000 * growth:.0f} ms")


def check_end(run, begin):
    """Stopped while nothing passes."""
    report = run.end()
    took = time.monotonic() - begin
    check(took < STOP_WITHIN_S, f"{run.name}: stopped within {took:.2f} s while the network was still")
    return report


def storm(run, networks, watcher, watch_again):
    """6 s of bad network, then some in which nothing passes, then a cut, and a stop while nothing passes again."""
    begin = time.monotonic()
    time.sleep(6)
    first, last = watcher.lag(begin, begin + 2), watcher.lag(begin + 4, begin + 6)
    check_growth(f"{run.name}: 2 % lost", first, last)
    losses = run.said().count("trying again")
    check(losses == 0, f"{run.name}: lost {losses} times by delay and loss alone")

    for net in networks:
        net.be("stall")
    time.sleep(STILL_S)
    for net in networks:
        net.be("go")
    time.sleep(5)
    check_growth(f"{run.name}: still for 2 s", first, watcher.lag(time.monotonic() - 1.2, time.monotonic()))
    for net in networks:
        net.be("cut")
    run.wait_said("lost (")
    watcher = watch_again()
    for net in networks:
        net.be("go")
    wait_for(f"{run.name}: input and output are back", 30, lambda: run.said().count("running again") >= 2)
    wait_for(f"{run.name}: pictures arrive again", 30, lambda: len(watcher.seen) > 3 * FPS)
    for net in networks:
        net.be("stall")
    time.sleep(0.5)
    return check_end(run, time.monotonic())


def open_rtmp(name):
    """A server that something is published to, a network before it, and the URL of an application through that."""
    server = live.Server(name)
    net = Network("tcp", live.free_port(), server.port)
    feed = live.publish(server.url("in"))
    time.sleep(1)
    return server, net, feed, lambda application: server.url(application).replace(f":{server.port}/", f":{net.port}/")


def test_rtmp():
    server, net, feed, away = open_rtmp("bad-rtmp")
    run = live.Run("bad-rtmp", "-i", away("in"), "-o", away("out"), "-o", "bad-rtmp.mkv")
    run.wait_frames()
    watcher = Watcher("-i", server.url("out"))
    wait_for("bad-rtmp: pictures arrive", 20, lambda: watcher.seen)
    report = storm(run, [net], watcher, lambda: Watcher("-i", server.url("out")))
    live.stop(feed)
    server.stop()
    if not report:
        return
    check(report["input"]["losses"] == 1, f"bad-rtmp: the input was lost {report['input']['losses']} times")
    live.check_result("bad-rtmp: the file", report, "bad-rtmp.mkv", 16)
    parts = server.recordings()
    check(len(parts) == 2, f"bad-rtmp: {len(parts)} recordings, before the cut and after")
    for i, path in enumerate(parts):
        live.check_result(f"bad-rtmp: as pushed, {i + 1}", report, path, (12, 2)[i], (5, 1)[i])


def test_buffer():
    """What comes in bursts is drawn evenly, if frames may wait: beside it, one run that draws what it has."""
    server, _, feed, away = open_rtmp("bad-buffer")
    runs = {name: live.Run(f"bad-buffer-{name}", "-i", away("in"), *options, "-o", f"bad-buffer-{name}.mkv")
            for name, options in (("without", []), ("with", ["--buffer", str(BUFFER_MS)]))}
    for run in runs.values():
        run.wait_frames()
    time.sleep(20)
    late = {}
    for name, run in runs.items():
        report = run.end()
        if not report:
            return
        frames = report["frames"]
        late[name] = frames["dropped"]["late"] / max(1, frames["in"] - frames["dropped"]["backlog"])
        live.check_result(run.name, report, f"bad-buffer-{name}.mkv", 12)
        print(f"{run.name}: {100 * late[name]:.0f} % late, latency, ms: {report['outputs'][0]['latency_ms']}, "
              f"between frames: {report['interval_ms']}", flush=True)
    live.stop(feed)
    server.stop()
    check(late["with"] < 0.1 and late["with"] < late["without"] / 3, f"bad-buffer: late: {late}")


def test_srt():
    into, out = (live.free_port(live.socket.SOCK_DGRAM) for _ in range(2))
    nets = [Network("udp", live.free_port(live.socket.SOCK_DGRAM), into, 2),
            Network("udp", live.free_port(live.socket.SOCK_DGRAM), out, 3)]
    url = "srt://127.0.0.1:{}?latency=1200000"      # µs: time for a lost packet to be sent again twice

    ends = []

    def open_ends():
        for end in ends:
            live.stop(end)
        receiver = Watcher("-analyzeduration", "3000000", "-i", url.format(out) + "&mode=listener", "-map", "0", "-c",
                           "copy", f"bad-srt-{len(ends) // 2}.mkv")
        ends[:] = [*ends, receiver.process, live.publish(url.format(nets[0].port), "mpegts")]
        return receiver

    run = live.Run("bad-srt", "--listen", "-i", url.format(into), "--codec-options", "g=1",
                   "-o", url.format(nets[1].port), "-o", "bad-srt.mkv")
    receiver = open_ends()
    run.wait_frames()
    wait_for("bad-srt: pictures arrive", 20, lambda: receiver.seen)
    report = storm(run, nets, receiver, open_ends)
    for end in ends:
        live.stop(end)
    if report:
        live.check_result("bad-srt: the file", report, "bad-srt.mkv", 12)
        live.check_result("bad-srt: as sent", report, "bad-srt-0.mkv", 12, max_gap=STILL_S + 1.5)
        live.check_result("bad-srt: after the cut", report, "bad-srt-1.mkv", 2, beeps=1)


TESTS = {"rtmp": test_rtmp, "srt": test_srt, "buffer": test_buffer}


def main():
    global network
    live.program, network = map(os.path.abspath, sys.argv[1:3])
    names = sys.argv[3:] or list(TESTS)
    if live.lacks_server(names, {"srt"}):
        return 77
    return live.run_tests(TESTS, names, [CLIP_S, 1])        # all key frames: what is lost spoils no number


if __name__ == "__main__":
    sys.exit(main())
