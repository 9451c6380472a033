# SPDX-License-Identifier: Apache-2.0
"""Collects training photos from Debian packages.

Downloads packages by name with `apt-get download`, unpacks them with `dpkg -x`, and writes every
natural photo it finds as JPEG under <out>/photos, with a list of sources and licences beside them.
Nothing is installed. Training material only: no photo becomes part of the product.
"""
import argparse
import glob
import hashlib
import os
import shutil
import struct
import subprocess

import cv2
import numpy as np

# package -> what its copyright file says about the pictures
PACKAGES = {
    "gcompris-qt-data": "CC-BY, CC-BY-SA, CC0-1.0, public domain, GPL-3+ (per file)",
    "lomiri-wallpapers-16.04": "CC-BY-4.0, CC-BY-SA-4.0, CC0-1.0 (per file)",
    "lomiri-wallpapers-20.04": "CC-BY-SA-3.0",
    "lxqt-themes": "LGPL-2.1+, LGPL-3, CC-BY-SA-3.0 (per file)",
    "mate-backgrounds": "GPL-2+, CC-BY-SA-4.0 (per file)",
    "opencv-doc": "Apache-2.0, BSD-3-Clause (the package as a whole)",
    "palapeli-data": "GPL-2+ (the package as a whole)",
    "plasma-workspace-wallpapers": "GPL-2+",
    "python3-skimage": "BSD-3-Clause (the package as a whole)",
}
SKIP = ("Megamind", "lena", "messi", "chess", "left0", "right0", "aloe")  # not free, or no photos


def carve_webp(blob):
    """WebP pictures inside a Qt resource file, found by their RIFF header."""
    at = blob.find(b"RIFF")
    while at >= 0:
        size = struct.unpack("<I", blob[at + 4:at + 8])[0] + 8
        if blob[at + 8:at + 12] == b"WEBP" and 4000 < size <= len(blob) - at:
            yield blob[at:at + size]
            at += size - 4
        at = blob.find(b"RIFF", at + 4)


def pictures(root):
    for folder, _, files in sorted(os.walk(root)):
        for name in sorted(files):
            path = os.path.join(folder, name)
            if os.path.islink(path) or any(s in path for s in SKIP):
                continue
            if name.lower().endswith((".jpg", ".jpeg", ".png", ".webp")):
                yield name, open(path, "rb").read()
            elif name.endswith(".rcc"):
                for i, webp in enumerate(carve_webp(open(path, "rb").read())):
                    yield f"{name}:{i}", webp


def looks_natural(small):
    """Keeps photos and paintings, drops icons, gradients and flat vector art."""
    gray = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
    noise = np.abs(gray - cv2.GaussianBlur(gray, (0, 0), 1.0))
    flat = np.mean(noise < 0.35)
    hist = np.bincount(gray.astype(np.uint8).ravel(), minlength=256) / gray.size
    entropy = -np.sum(hist[hist > 0] * np.log2(hist[hist > 0]))
    chroma = np.ptp(small.astype(np.float32), axis=2).mean()
    return flat < 0.45 and entropy > 6.0 and noise.mean() > 0.8 and chroma > 14


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", required=True)
    p.add_argument("--keep-short-side", type=int, default=640)
    args = p.parse_args()
    debs, photos = os.path.join(args.out, "deb"), os.path.join(args.out, "photos")
    os.makedirs(debs, exist_ok=True)
    os.makedirs(photos, exist_ok=True)
    seen, report = set(), []
    for package, licence in PACKAGES.items():
        if not glob.glob(f"{debs}/{package}_*.deb"):
            subprocess.run(["apt-get", "download", package], cwd=debs, check=True)
        root = os.path.join(debs, package)
        if not os.path.isdir(root):
            deb = glob.glob(f"{debs}/{package}_*.deb")[0]
            subprocess.run(["dpkg", "-x", deb, root], check=True)
        count = 0
        for name, blob in pictures(root):
            image = cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_COLOR)
            if image is None or min(image.shape[:2]) < 256 or max(image.shape[:2]) > 12000:
                continue
            small = cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA)
            print_ = cv2.resize(small, (12, 12), interpolation=cv2.INTER_AREA) // 24
            key = hashlib.sha1(print_.tobytes()).hexdigest()[:12]
            if key in seen or not looks_natural(small):
                continue
            seen.add(key)
            scale = args.keep_short_side / min(image.shape[:2])
            if scale < 1:
                image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            cv2.imwrite(f"{photos}/{package}-{key}.jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 93])
            count += 1
        report.append(f"| {package} | {count} | {licence} |")
        print(package, count, flush=True)
        for copyright_ in glob.glob(f"{root}/usr/share/doc/{package}/copyright"):
            shutil.copy(copyright_, f"{photos}/{package}.copyright")
    with open(f"{photos}/SOURCES.md", "w") as f:
        head = ["| Debian package | photos | licences |", "|---|---|---|"]
        f.write("\n".join(head + report) + "\n")


if __name__ == "__main__":
    main()
