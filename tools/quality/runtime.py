# SPDX-License-Identifier: Apache-2.0
"""The C program as a function: raw RGB frames in by a pipe, and what a viewer would see out.

The program gives 8-bit 4:2:0. Whatever is compared with its pictures goes through `passthrough`, the
same path without the model, so that no side has an advantage.
"""
import hashlib
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from model.folder import read_safetensors, write_safetensors

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build/release/tools/live2diff/live2diff"


class Failure(Exception):
    """One line that says what is wrong."""


def find_program(asked):
    for path in [asked] if asked else [str(BUILT), "live2diff"]:
        found = shutil.which(path)
        if found:
            return found
    raise Failure(f"{asked}: not a program" if asked else f"{BUILT} is not there: build it (tools/demo) "
                  "or name the program with --program")


def feed(pipe, frames):
    try:
        with pipe:
            for frame in frames:
                pipe.write(np.ascontiguousarray(frame).data)
    except BrokenPipeError:
        pass                            # the program's own message says why


def first_line(said):
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[0] if lines else "it stopped without saying why"


class Runtime:
    """One model and how it is run."""

    def __init__(self, program, model, steps, precision, noise, steady=None):
        self.program, self.model = program, Path(model)
        self.steps, self.precision, self.noise = steps, precision, noise
        self.steady = steady            # what --steady is given; None: the model's own
        if not (self.model / "model.json").is_file():
            raise Failure(f"{model}: no model.json there")
        if not shutil.which("ffmpeg"):
            raise Failure("ffmpeg is not installed: apt-get install ffmpeg")

    def model_hash(self):
        digest = hashlib.sha256()
        for path in sorted(self.model.glob("*.safetensors")):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:12]

    def command(self, size, *options):
        h, w = size
        return [self.program, "run", "-q", "-f", "rawvideo", "--input-options",
                f"pixel_format=rgb24:video_size={w}x{h}:framerate=25", "-i", "-", "--size", f"{w}x{h}",
                *options]

    def model_options(self, prompt, precision=None):
        steady = [] if self.steady is None else ["--steady", self.steady]
        return ["-m", str(self.model), "-p", prompt, "--steps", self.steps, "--seed", "0",
                "--noise", self.noise, "--precision", precision or self.precision, *steady]

    def stream(self, frames, size, *options):
        """Yields the pictures, uint8 [H,W,3], while frames (any iterable) are still going in."""
        h, w = size
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as ffmpeg_said:
            run = subprocess.Popen(self.command(size, *options, "-o", "-"), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=said)
            rgb = subprocess.Popen(
                ["ffmpeg", "-v", "error", "-f", "yuv4mpegpipe", "-i", "-", "-vsync", "0", "-sws_flags",
                 "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp", "-f", "rawvideo",
                 "-pix_fmt", "rgb24", "-"],
                stdin=run.stdout, stdout=subprocess.PIPE, stderr=ffmpeg_said)
            run.stdout.close()
            feeder = threading.Thread(target=feed, args=(run.stdin, frames), daemon=True)
            feeder.start()
            try:
                while True:
                    data = rgb.stdout.read(h * w * 3)
                    if len(data) < h * w * 3:
                        break
                    yield np.frombuffer(data, np.uint8).reshape(h, w, 3)
            finally:
                rgb.stdout.close()
                run.wait()
                rgb.wait()
            feeder.join()
            if run.returncode:
                raise Failure(first_line(said))
            if rgb.returncode:
                raise Failure(f"ffmpeg, reading what live2diff wrote: {first_line(ffmpeg_said)}")

    def collect(self, frames, *options):
        out = list(self.stream(frames, frames[0].shape[:2], *options))
        if len(out) != len(frames):
            raise Failure(f"live2diff run: {len(frames)} frames went in, {len(out)} came out")
        return np.stack(out)

    def paint(self, frames, prompt, precision=None, *options):
        """A clip through the model: as many pictures as frames, [N,H,W,3]."""
        return self.collect(frames, *self.model_options(prompt, precision), *options)

    def passthrough(self, frames):
        return self.collect(frames, "--passthrough")

    def dump(self, frames, prompt, precision):
        """Yields (frame number, activations). Its files are deleted as they are read: 20 MB each at 256x256."""
        frames = np.stack(frames)
        exact = ["--rewarm", "never", *(["--kv-cache", "fp16"] if precision == "fp16" else [])]     # as the reference
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
            command = self.command(frames.shape[1:3], *self.model_options(prompt, precision), *exact, "-o", "null",
                                   "--dump", folder)
            run = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said)
            threading.Thread(target=feed, args=(run.stdin, frames), daemon=True).start()
            index = 0
            while index < len(frames):
                over = run.poll() is not None
                path = Path(folder) / f"frame_{index:06d}.safetensors"
                if path.exists():
                    yield index, read_safetensors(path)
                    path.unlink()
                    index += 1
                elif over:
                    raise Failure(first_line(said))
                else:
                    time.sleep(.02)
            run.wait()


def without_motion(runtime, folder):
    """The same runtime on a copy of the model in `folder` whose motion modules add nothing; nor is it steadied.

    Every motion module ends in proj_out and is added to its input; with proj_out zero each frame is
    denoised on its own.
    """
    folder = Path(folder)
    for path in runtime.model.iterdir():
        if path.name != "unet.safetensors":
            (folder / path.name).symlink_to(path.resolve())
    tensors = read_safetensors(runtime.model / "unet.safetensors")
    ends = [n for n in tensors if ".motion_modules." in n and ".proj_out." in n]
    if not ends:
        raise Failure(f"{runtime.model}: no motion modules to turn off")
    write_safetensors(folder / "unet.safetensors",
                      {n: np.zeros_like(t) if n in ends else t for n, t in tensors.items()})
    return Runtime(runtime.program, folder, runtime.steps, runtime.precision, runtime.noise, "0")
