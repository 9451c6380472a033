# SPDX-License-Identifier: Apache-2.0
"""Makes samples/clips/moose.mp4: a camera drifts around one public-domain photo, with parallax.

The photo is `moose.webp` of Debian's gcompris-qt-data (fetched by collect.py). Depth is painted by
hand as a few soft blobs; the music is four synthesised chords. Needs ffmpeg with libx264 and aac.
"""
import argparse
import math
import os
import subprocess

import cv2
import numpy as np

from collect import carve_webp

WIDTH, HEIGHT, RATE, SECONDS = 512, 288, 24, 6
RCC = "deb/gcompris-qt-data/usr/share/gcompris-qt/rcc/explore_world_animals.rcc"


def depth_of(h, w):
    """1 near, 0 far: the animal's body, head and antlers, and the meadow up to the trees."""
    y, x = np.mgrid[:h, :w].astype(np.float32) / (h, w)[0]

    def blob(cx, cy, rx, ry):
        return np.clip(1.6 - 1.1 * np.hypot((x - cx) / rx, (y - cy) / ry), 0, 1)

    meadow = np.clip((y - .62) / .38, 0, 1)
    animal = np.maximum.reduce([blob(.62, .83, .48, .2), blob(.8, .62, .22, .28),
                                .95 * blob(.56, .4, .24, .2), .95 * blob(.98, .32, .24, .2)])
    return cv2.GaussianBlur(np.maximum(meadow, .85 * animal), (0, 0), 9)


def music():
    """A soft arpeggio over four chords, as an ffmpeg aevalsrc expression."""
    chords = [(220, 261.63, 329.63), (174.61, 220, 261.63), (196, 246.94, 293.66),
              (220, 277.18, 329.63)]
    beat = SECONDS / 16
    terms = []
    for i in range(16):
        f = chords[i // 4][(0, 1, 2, 1)[i % 4]]
        start = i * beat
        terms.append(f"gte(t,{start})*exp(-3*(t-{start}))*(sin({2 * math.pi * f:.3f}*t)"
                     f"+.3*sin({4 * math.pi * f:.3f}*t))*(1-exp(-90*(t-{start})))")
    return ".18*(" + "+".join(terms) + ")"


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data", required=True, help="the folder that collect.py filled")
    p.add_argument("--out", required=True)
    args = p.parse_args()
    with open(os.path.join(args.data, RCC), "rb") as f:
        pictures = [cv2.imdecode(np.frombuffer(b, np.uint8), cv2.IMREAD_COLOR)
                    for b in carve_webp(f.read())]
    photo = [x for x in pictures if x is not None and min(x.shape[:2]) > 250][1]
    h, w = photo.shape[:2]
    near = depth_of(h, w)
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24",
               "-s", f"{WIDTH}x{HEIGHT}", "-r", str(RATE), "-i", "-",
               "-f", "lavfi", "-t", str(SECONDS), "-i", f"aevalsrc='{music()}':s=44100",
               "-c:v", "libx264", "-preset", "slow", "-crf", "21", "-pix_fmt", "yuv420p",
               "-c:a", "aac", "-b:a", "96k", "-af", f"afade=t=out:st={SECONDS - 1}:d=1",
               "-map_metadata", "-1", "-movflags", "+faststart", "-shortest", args.out]
    encoder = subprocess.Popen(command, stdin=subprocess.PIPE)
    gy, gx = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    gx, gy = (gx + .5) / WIDTH - .5, (gy + .5) / HEIGHT - .5
    for i in range(RATE * SECONDS):
        t = i / (RATE * SECONDS)
        swing, rise = -math.cos(2 * math.pi * t), math.sin(2 * math.pi * t)
        span = w * (.8 - .08 * swing)
        cx, cy = w * (.5 + .02 * swing), h * (.44 + .03 * rise)
        px, py = cx + gx * span, cy + gy * span * HEIGHT / WIDTH
        for _ in range(3):      # where does the point seen here lie, given its own parallax?
            z = cv2.remap(near, px, py, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            px = cx + gx * span - (z - .5) * 26 * swing
            py = cy + gy * span * HEIGHT / WIDTH - (z - .5) * 10 * rise
        big = cv2.remap(photo, px, py, cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT_101)
        encoder.stdin.write(big.tobytes())
    encoder.stdin.close()
    if encoder.wait():
        raise SystemExit("ffmpeg failed")


if __name__ == "__main__":
    main()
