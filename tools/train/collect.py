# SPDX-License-Identifier: Apache-2.0
"""Collects training photos and cut-outs, from Debian packages and from folders of one's own.

Downloads packages by name with `apt-get download` and unpacks them with `dpkg -x`; nothing is
installed. Writes every natural photo as JPEG under <out>/photos, with a list of sources and
licences, and photographic cut-outs with alpha as PNG under <out>/stamps. A large photo also gives
closer views of its parts, named photo_1, photo_2, ... Training material only: no photo becomes
part of the product.
"""
import argparse
import glob
import hashlib
import os
import re
import shutil
import struct
import subprocess

import cv2
import numpy as np

# package -> (what its copyright file says about the pictures, which of its files are photos)
PACKAGES = {
    "gcompris-qt-data": ("CC-BY, CC-BY-SA, CC0-1.0, public domain, GPL-3+ (per file)", r"\.rcc"),
    "lomiri-wallpapers-16.04": ("CC-BY-4.0, CC-BY-SA-4.0, CC0-1.0 (per file)", ""),
    "lomiri-wallpapers-20.04": ("CC-BY-SA-3.0", ""),
    "lxqt-themes": ("LGPL-2.1+, LGPL-3, CC-BY-SA-3.0 (per file)",
                    r"/(flowers|fog|after-the-rain|Butterfly|Valendas|appleflower|cloud|drop)"),
    "mate-backgrounds": ("GPL-2+, CC-BY-SA-4.0 (per file)", r"/nature/"),
    "opencv-doc": ("Apache-2.0, BSD-3-Clause (the package as a whole)",
                   r"/(apple|baboon|basketball1|boat|budapest|building|butterfly|fruits|home|"
                   r"orange|pexels_double_decker_bus|plant|scenetext0\d|space_shuttle|"
                   r"squirrel_cls|starry_night)\.jpg"),
    "palapeli-data": ("GPL-2+ (the package as a whole)", r"/collection/"),
    "plasma-workspace-wallpapers": ("GPL-2+", r"/(Autumn|BytheWater|ColdRipple|ColorfulCups|"
                                    r"DarkestHour|EveningGlow|FallenLeaf|Grey|Kite|OneStandsOut|"
                                    r"Path|summer_1am)/contents/images"),
    "python3-skimage": ("BSD-3-Clause (the package as a whole)",
                        r"/data/(coffee|astronaut|motorcycle_left|rocket|chelsea)"),
    "python3-sklearn": ("BSD-3-Clause (the package as a whole)", r"/images/"),
    "stellarium-data": ("GPL-2+ (the package as a whole)", r"/landscapes/"),
}
STAMPS = "tuxpaint-stamps-default"              # GPL-2
STAMPS_WANTED = r"/(animals|clothes|food|hobbies|household|military|plants|sports|town|vehicles)/"
STAMPS_SKIPPED = r"cartoon|symbols|flags|roadsigns|toys|plastic|_mirror|_flip"


def unpack(debs, package):
    """The folder of the unpacked package, downloaded if it is not there yet."""
    root = os.path.join(debs, package)
    if not glob.glob(f"{debs}/{package}_*.deb"):
        subprocess.run(["apt-get", "-qo", "APT::Sandbox::User=root", "download", package],
                       cwd=debs, check=True)
    if not os.path.isdir(root):
        deb = glob.glob(f"{debs}/{package}_*.deb")[0]
        subprocess.run(["dpkg", "-x", deb, root], check=True)
    return root


def carve_webp(blob):
    """WebP pictures inside a Qt resource file, found by their RIFF header."""
    at = blob.find(b"RIFF")
    while at >= 0:
        size = struct.unpack("<I", blob[at + 4:at + 8])[0] + 8
        if blob[at + 8:at + 12] == b"WEBP" and 4000 < size <= len(blob) - at:
            yield blob[at:at + size]
            at += size - 4
        at = blob.find(b"RIFF", at + 4)


def largest(names):
    """Of pictures named by their size, as in 1920x1080.png, only the widest; all other names."""
    sizes = {n: re.match(r"(\d+)x(\d+)\.", n) for n in names}
    shapes = [n for n in names if sizes[n]]
    widest = max(shapes, key=lambda n: int(sizes[n][1]) / int(sizes[n][2]) + int(sizes[n][1]),
                 default=None)
    return [n for n in names if not sizes[n] or n == widest]


def pictures(root, wanted=""):
    """The encoded pictures below a folder, those whose path matches `wanted`."""
    for folder, _, files in sorted(os.walk(root)):
        real = [n for n in sorted(files) if not os.path.islink(os.path.join(folder, n))]
        for name in largest(real):
            path = os.path.join(folder, name)
            if not re.search(wanted, path):
                continue
            if name.lower().endswith((".jpg", ".jpeg", ".png", ".webp")):
                with open(path, "rb") as f:
                    yield f.read()
            elif name.endswith(".rcc"):
                with open(path, "rb") as f:
                    yield from carve_webp(f.read())


def looks_natural(small):
    """Keeps photos and paintings, drops icons, gradients and flat vector art."""
    gray = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
    noise = np.abs(gray - cv2.GaussianBlur(gray, (0, 0), 1.0))
    flat = np.mean(noise < 0.35)
    hist = np.bincount(gray.astype(np.uint8).ravel(), minlength=256) / gray.size
    entropy = -np.sum(hist[hist > 0] * np.log2(hist[hist > 0]))
    chroma = np.ptp(small.astype(np.float32), axis=2).mean()
    holes = np.mean(small.min(2) >= 254)
    return flat < .45 and entropy > 6 and noise.mean() > .8 and chroma > 14 and holes < .12


def thumbnail(image):
    return cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA)


def views(image):
    """The picture; and if it is large, closer views: left, right and centre, below each other."""
    h, w = image.shape[:2]
    yield image
    if max(h, w) < 1000 or min(h, w) < 560:
        return
    panorama = w > 2.2 * h
    ch = int(h * (.8 if panorama else .55))
    cw = min(w, int(ch * 4 / 3))
    for x, y in [(0, .7), (1, .8), (.5, .5), (.3, .2)] + [(.75, .6)] * panorama:
        top, left = int((h - ch) * y), int((w - cw) * x)
        yield image[top:top + ch, left:left + cw]


def decode(blob):
    """A BGR picture, cut to the part that is not transparent; None if it is no use."""
    image = cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim < 3 or image.dtype != np.uint8:
        return None
    if image.shape[2] == 4:
        rows = np.flatnonzero(np.mean(image[..., 3] > 250, 1) > .99)
        if not len(rows):
            return None
        image = np.ascontiguousarray(image[rows[0]:rows[-1] + 1, :, :3])
    small_or_huge = min(image.shape[:2]) < 256 or max(image.shape[:2]) > 12000
    return None if small_or_huge else image


def save_photos(blobs, prefix, seen, short_side):
    """Writes each natural picture that was not seen before; returns how many files."""
    count = 0
    for image in filter(lambda x: x is not None, map(decode, blobs)):
        small = thumbnail(image)
        print_ = cv2.resize(small, (12, 12), interpolation=cv2.INTER_AREA) // 24
        key = hashlib.sha1(print_.tobytes()).hexdigest()[:12]
        if key in seen or not looks_natural(small):
            continue
        seen.add(key)
        for i, view in enumerate(views(image)):
            if i and not looks_natural(thumbnail(view)):
                continue
            scale = short_side / min(view.shape[:2])
            if scale < 1:
                view = cv2.resize(view, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            name = f"{prefix}-{key}_{i}.jpg" if i else f"{prefix}-{key}.jpg"
            cv2.imwrite(name, view, [cv2.IMWRITE_JPEG_QUALITY, 93])
            count += 1
    return count


def photographic(stamp):
    """Whether a BGRA cut-out looks like a photo: many colours, a real hole, enough pixels."""
    inside = stamp[..., 3] > 250
    if max(stamp.shape[:2]) < 130 or min(stamp.shape[:2]) < 60 or not .12 < inside.mean() < .92:
        return False
    colors = stamp[inside][:, :3]
    gray = cv2.cvtColor(np.ascontiguousarray(stamp[..., :3]), cv2.COLOR_BGR2GRAY)
    noise = np.abs(gray.astype(np.float32) - cv2.GaussianBlur(gray, (0, 0), 1.))
    core = cv2.erode(inside.astype(np.uint8), np.ones((9, 9))) > 0
    return len(np.unique(colors // 8, axis=0)) > 250 and core.any() \
        and np.mean(noise[core] < .5) < .55


def save_stamps(root, out):
    os.makedirs(out, exist_ok=True)
    count = 0
    for path in sorted(glob.glob(f"{root}/usr/share/**/*.png", recursive=True)):
        if re.search(STAMPS_SKIPPED, path) or not re.search(STAMPS_WANTED, path):
            continue
        stamp = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        if stamp is None or stamp.ndim < 3 or stamp.shape[2] < 4 or not photographic(stamp):
            continue
        rows, columns = (np.flatnonzero(stamp[..., 3].max(axis) > 8) for axis in (1, 0))
        stamp = stamp[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        scale = min(1, 200 / max(stamp.shape[:2]))
        stamp = cv2.resize(stamp, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        cv2.imwrite(f"{out}/{os.path.basename(path)}", stamp)
        count += 1
    return count


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", required=True)
    p.add_argument("--photos", action="append", default=[], metavar="DIR",
                   help="adds the pictures of a folder; may be repeated")
    p.add_argument("--keep-short-side", type=int, default=640)
    args = p.parse_args()
    debs, photos = os.path.join(args.out, "deb"), os.path.join(args.out, "photos")
    os.makedirs(debs, exist_ok=True)
    os.makedirs(photos, exist_ok=True)
    seen, report = set(), []
    for package, (licence, wanted) in PACKAGES.items():
        root = unpack(debs, package)
        count = save_photos(pictures(root, wanted), f"{photos}/{package}", seen,
                            args.keep_short_side)
        report.append(f"| {package} | {count} | {licence} |")
        print(package, count, flush=True)
        for copyright_ in glob.glob(f"{root}/usr/share/doc/{package}/copyright"):
            shutil.copy(copyright_, f"{photos}/{package}.copyright")
    for folder in args.photos:
        name = re.sub(r"\W+", "-", os.path.basename(os.path.abspath(folder)))
        count = save_photos(pictures(folder), f"{photos}/own-{name}", seen, args.keep_short_side)
        report.append(f"| {folder} | {count} | own folder |")
        print(folder, count, flush=True)
    count = save_stamps(unpack(debs, STAMPS), os.path.join(args.out, "stamps"))
    report.append(f"| {STAMPS} | {count} cut-outs | GPL-2 |")
    print(STAMPS, count, flush=True)
    with open(f"{photos}/SOURCES.md", "w") as f:
        head = ["| Debian package | pictures | licences |", "|---|---|---|"]
        f.write("\n".join(head + report) + "\n")


if __name__ == "__main__":
    main()
