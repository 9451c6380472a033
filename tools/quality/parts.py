# SPDX-License-Identifier: Apache-2.0
"""The parts of the evaluation. Each takes the Bench and returns figures as plain dicts and lists.

Who is compared: `ours` is the C program with the model as it ships; `bare` the same, but not steadied; `off`
that with the motion modules off, and `alone` that with new noise for every frame too; `teacher` the filter on
every frame on its own; `source` the input. `ceiling` is the autoencoder alone on the teacher's picture.
"""
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

import data
import grammar
import material
import measures
import teachers
from model.folder import load_model
from runtime import Failure, Runtime, without_motion
from stream import Stream

STYLES = list(teachers.STYLES)
WARM_UP = 8
WORDS_SIZE = 128        # short recognitions: one-frame clips of this size
NONSENSE = ["qwxz", "blorf gnarp", "xylotremic", "zzkt 7734 vrmp", "ftaghn umbral"]


@dataclass
class Scale:
    size: int
    photos: int             # clips a style in `teacher`, and photos shown
    moving: int             # frames of such a clip; those after the warm-up are measured
    autoencoder: int        # photos
    clip: int               # frames of a video
    clip_styles: int        # styles a video; 0: all styles, dealt out over the videos
    fixed: int              # frames of a fixed camera
    fixed_styles: int
    words: int              # paraphrases a style at most
    word_photos: int        # photos a paraphrase
    palette_styles: int
    long: int               # frames of the long run
    parity: int


FULL = Scale(256, 3, 14, 24, 20, 0, 16, 9, 5, 2, 3, 2000, 100)
QUICK = Scale(128, 1, 11, 4, 12, 1, 11, 3, 1, 1, 1, 200, 12)


class Bench:
    """What the parts share: the runtimes, the photos, the reference model, and the clock."""

    def __init__(self, runtime, scale, data_folder, clips, pictures):
        self.runtime, self.scale, self.clips, self.pictures = runtime, scale, clips, pictures
        self.data_folder, self.began = data_folder, time.monotonic()

    @cached_property
    def stills(self):
        if not self.data_folder:
            raise Failure("name the training folder with --data: the held-out photos are there")
        return material.held_out(self.data_folder)

    def photo(self, number):
        """The index of one of `scale.photos` photos, spread over those held out."""
        return number * len(self.stills.stacks) // self.scale.photos

    @cached_property
    def reference(self):
        return load_model(self.runtime.model)

    @cached_property
    def off(self):
        self.off_folder = tempfile.TemporaryDirectory()
        return without_motion(self.runtime, self.off_folder.name)

    @cached_property
    def bare(self):
        r = self.runtime
        return Runtime(r.program, r.model, r.steps, r.precision, r.noise, "0")

    @cached_property
    def alone(self):
        r = self.off
        return Runtime(r.program, r.model, r.steps, r.precision, "fresh", "0")

    def say(self, *words):
        print(f"[{(time.monotonic() - self.began) / 60:5.1f} min]", *words, file=sys.stderr, flush=True)

    def paint(self, frames, prompt, measured):
        """frames[measured:] by each of the four; without motion modules the frames before do not matter."""
        first = min(measured, len(frames) - WARM_UP) if len(frames) > WARM_UP else 0
        return {"ours": self.runtime.paint(frames, prompt)[measured:],
                "bare": self.bare.paint(frames, prompt)[measured:],
                "off": self.off.paint(frames[first:], prompt)[measured - first:],
                "alone": self.alone.paint(frames[first:], prompt)[measured - first:]}

    @torch.no_grad()
    def round_trip(self, pictures):
        """Through the autoencoder alone, in PyTorch; the C one is tested to be equal."""
        vae = self.reference.vae
        return np.concatenate([data.to_uint8(vae.decode(vae.encode(data.to_float(p[None], "cpu"))))
                               for p in pictures])


def per_frame(style, frames):
    return np.stack([teachers.apply(style, f) for f in frames])


def mean(values):
    values = [v for v in values if v is not None]
    return float(np.mean(values)) if values else None


def mean_of(rows):
    """[{name: {who: figure}}] -> the same, averaged."""
    return {name: {who: mean([r[name][who] for r in rows]) for who in rows[0][name]} for name in rows[0]}


def autoencoder(bench):
    """PSNR of the autoencoder's round trip on held-out photos and on their styled versions."""
    sums = {name: [] for name in ["photo"] + STYLES}
    for photo in range(min(bench.scale.autoencoder, len(bench.stills.stacks))):
        stack = bench.stills.centre(photo, bench.scale.size)
        for name, a, b in zip(sums, stack, bench.round_trip(stack)):
            sums[name].append(measures.psnr(a, b))
        if photo % 8 == 7:
            bench.say(f"autoencoder: {photo + 1} photos")
    styles = {name: mean(values) for name, values in sums.items()}
    photo = styles.pop("photo")
    return {"photo": photo, "styled": mean(styles.values()), "styles": styles}


def teacher(bench):
    """Held-out photos under a moving camera, every style: closeness to the teacher, structure, warp error."""
    scale, runtime = bench.scale, bench.runtime
    rows = {style: [] for style in STYLES}
    shown = {style: [] for style in STYLES}
    for photo in range(scale.photos):
        stack = material.moving(bench.stills, bench.photo(photo), scale.moving, scale.size)
        late = stack[:, WARM_UP:]
        seen = runtime.passthrough(late.reshape(-1, *late.shape[2:])).reshape(late.shape)
        source, targets = seen[0], seen[1:]
        motion = measures.Motion(late[0])
        for number, style in enumerate(STYLES):
            bench.say(f"teacher: photo {photo + 1} of {scale.photos}, {style}")
            painted = bench.paint(stack[0], grammar.CANONICAL[style], WARM_UP)
            single = runtime.passthrough(per_frame(style, late[0]))
            ceiling = runtime.passthrough(bench.round_trip(single))
            who = {**painted, "teacher": single, "source": source}
            rows[style].append({
                "psnr": {n: measures.psnr(f, single) for n, f in {**who, "ceiling": ceiling}.items()
                         if n != "teacher"},
                "moved": {n: measures.psnr(f, targets[number]) for n, f in who.items()},
                "difference": {n: measures.difference(f, source) for n, f in who.items()},
                "structure": {n: measures.structure(f, source) for n, f in who.items()},
                "warp": {n: motion.error(f) for n, f in who.items()},
                "recognised": {n: mean([measures.nearest(f[t], targets[:, t]) == number for t in range(len(f))])
                               for n, f in who.items() if n in painted}})
            shown[style].append((source[-1], single[-1], painted["ours"][-1]))
    for style in STYLES:
        material.sheet(bench.pictures / f"style-{style.replace(' ', '-')}.jpg", zip(*shown[style]))
    styles = {style: mean_of(r) for style, r in rows.items()}
    return {**mean_of(list(styles.values())), "styles": styles}


def clips(bench):
    """Video files: warp error, structure and difference; pictures of the frames over time."""
    scale, runtime = bench.scale, bench.runtime
    if not bench.clips:
        raise Failure("no clips to evaluate on: name some with --clips")
    rows, names = {}, {}
    for number, path in enumerate(bench.clips):
        frames = material.video(path, scale.clip, scale.size)
        motion = measures.Motion(frames[WARM_UP:])
        source = runtime.passthrough(frames)
        chosen = STYLES[number::len(bench.clips)]
        if scale.clip_styles:
            chosen = chosen[:scale.clip_styles]
        moments = np.linspace(WARM_UP, scale.clip - 1, 6).astype(int)
        pictures = [source[moments]]
        figures = []
        for style in chosen:
            bench.say(f"clips: {path.name}, {style}")
            painted = bench.paint(frames, grammar.CANONICAL[style], WARM_UP)
            single = runtime.passthrough(per_frame(style, frames[WARM_UP:]))
            who = {**painted, "teacher": single, "source": source[WARM_UP:]}
            figures.append({
                "difference": {n: measures.difference(f, source[WARM_UP:]) for n, f in who.items()},
                "structure": {n: measures.structure(f, source[WARM_UP:]) for n, f in who.items()},
                "warp": {n: motion.error(f) for n, f in who.items()}})
            pictures.append(painted["ours"][moments - WARM_UP])
        material.sheet(bench.pictures / f"clip-{path.stem}.jpg", pictures, 192)
        names[path.name], rows[path.name] = chosen, mean_of(figures)
    return {**mean_of(list(rows.values())), "clips": rows, "chosen": names}


def cache(bench):
    """Video files with keys and values in bytes: how far from those in fp16, beside how far fp16 is from fp32, and
    from what it would be without any memory of past frames; none of them steadied."""
    scale, rows, chosen = bench.scale, [], {}
    for number, path in enumerate(bench.clips):
        frames = material.video(path, scale.clip, scale.size)
        motion = measures.Motion(frames[WARM_UP:])
        chosen[path.name] = STYLES[number::len(bench.clips)][:1 if scale is QUICK else 2]
        for style in chosen[path.name]:
            bench.say(f"cache: {path.name}, {style}")
            prompt = grammar.CANONICAL[style]
            kept = {"int8": bench.bare.paint(frames, prompt, "fp16", "--kv-cache", "int8")[WARM_UP:],
                    "fp16": bench.bare.paint(frames, prompt, "fp16", "--kv-cache", "fp16")[WARM_UP:],
                    "fp32": bench.bare.paint(frames, prompt, "fp32")[WARM_UP:],
                    "off": bench.off.paint(frames, prompt, "fp16")[WARM_UP:]}
            rows.append({"psnr": {"int8": measures.psnr(kept["int8"], kept["fp16"]),
                                  "int8 worst frame": min(map(measures.psnr, kept["int8"], kept["fp16"])),
                                  "fp16": measures.psnr(kept["fp16"], kept["fp32"]),
                                  "off": measures.psnr(kept["off"], kept["fp16"])},
                         "warp": {n: motion.error(f) for n, f in kept.items()}})
    return {**mean_of(rows), "worst frame": min(r["psnr"]["int8 worst frame"] for r in rows), "chosen": chosen}


def flicker(bench):
    """A fixed camera with sensor noise: standard deviation in time where nothing moves."""
    scale, rows = bench.scale, {}
    for number, style in enumerate(STYLES[::max(1, len(STYLES) // scale.fixed_styles)]):
        bench.say(f"flicker: {style}")
        frames, static = material.fixed(bench.stills, number, scale.fixed, scale.size)
        late = frames[WARM_UP:]
        who = {**bench.paint(frames, grammar.CANONICAL[style], WARM_UP),
               "teacher": bench.runtime.passthrough(per_frame(style, late)),
               "source": bench.runtime.passthrough(late)}
        rows[style] = {"flicker": {n: measures.flicker(f, static) for n, f in who.items()}}
    return {**mean_of(list(rows.values())), "styles": rows}


def paint_one(bench, photo, prompt, size=WORDS_SIZE):
    """One photo as a clip of one frame, which the runtime repeats to fill its warm-up."""
    return bench.runtime.paint(bench.stills.centre(photo % len(bench.stills.stacks), size)[:1], prompt)[0]


def all_teachers(bench, photo, size=WORDS_SIZE):
    return bench.stills.centre(photo % len(bench.stills.stacks), size)[1:]


def recognise(bench, style, prompt, photo):
    """The style that the picture is nearest to, as a name."""
    return STYLES[measures.nearest(paint_one(bench, photo, prompt), all_teachers(bench, photo))]


def words(bench):
    """What prompts choose: unseen paraphrases, unknown words, the empty prompt."""
    scale = bench.scale
    unseen, missed = {}, []
    for number, style in enumerate(STYLES):
        bench.say(f"words: {style}")
        right = []
        for p, prompt in enumerate(grammar.UNSEEN[style][:scale.words]):
            for photo in range(scale.word_photos):
                got = recognise(bench, style, prompt, number + 3 * p + 7 * photo)
                right.append(got == style)
                if got != style:
                    missed.append([prompt, style, got])
        unseen[style] = mean(right)
    unknown = []
    for number, style in enumerate(STYLES[:9 if scale is FULL else 2]):
        strange = NONSENSE[number % len(NONSENSE)]
        plain = grammar.CANONICAL[style]
        prompt = f"{strange}, {plain}" if number % 2 else f"{plain}, {strange}"
        got = recognise(bench, style, prompt, number)
        unknown.append(got == style)
        if got != style:
            missed.append([prompt, style, got])
    bench.say("words: the empty prompt")
    empty, ceiling = [], []
    for photo in range(scale.photos):
        index = bench.photo(photo)
        source = bench.stills.centre(index, scale.size)[:1]
        seen = bench.runtime.passthrough(source)[0]
        empty.append(measures.psnr(paint_one(bench, index, "", scale.size), seen))
        ceiling.append(measures.psnr(bench.runtime.passthrough(bench.round_trip(source))[0], seen))
    return {"unseen": mean(unseen.values()), "styles": unseen, "unknown": mean(unknown), "missed": missed,
            "empty": {"ours": mean(empty), "ceiling": mean(ceiling)}}


def palettes(bench):
    """A style and a palette in one prompt: nearest of the style's picture in every palette and in none."""
    names = list(teachers.PALETTES)
    step = max(1, len(STYLES) // bench.scale.palette_styles)
    rows, right, styles = [], {name: [] for name in names}, STYLES[::step][:bench.scale.palette_styles]
    for number, style in enumerate(styles):
        bench.say(f"palettes: {style}")
        plain = all_teachers(bench, number)[STYLES.index(style)]
        graded = [teachers.grade(name, plain) for name in [None] + names]
        outputs = [paint_one(bench, number, grammar.CANONICAL[style])]
        for p, name in enumerate(names):
            prompt = f"{grammar.CANONICAL[style]}, {grammar.PALETTE_WORDS[name][0]}"
            outputs.append(paint_one(bench, number, prompt))
            right[name].append(measures.nearest(outputs[-1], graded) == p + 1)
        rows += [graded, outputs]
    material.sheet(bench.pictures / "palettes.jpg", rows)
    palette = {name: mean(values) for name, values in right.items()}
    return {"recognised": mean(palette.values()), "palettes": palette, "shown": styles}


def drift(bench):
    """A clip of 50 frames repeated: how far the mean colour of a whole loop moves."""
    scale, style = bench.scale, STYLES[0]
    frames = material.loop(bench.stills, 1, 26, scale.size)
    endless = (frames[i % len(frames)] for i in range(scale.long))
    means = []
    for picture in bench.runtime.stream(endless, (scale.size, scale.size),
                                        *bench.runtime.model_options(grammar.CANONICAL[style])):
        means.append(picture.reshape(-1, 3).mean(0))
        if len(means) % 100 == 0:
            bench.say(f"drift: frame {len(means)} of {scale.long}")
    if len(means) != scale.long:
        raise Failure(f"live2diff run: {scale.long} frames went in, {len(means)} came out")
    end, most = measures.drift(np.array(means), WARM_UP, len(frames))
    return {"end": end, "most": most, "frames": scale.long, "style": style}


class Tap:
    """Keeps what the reference stream says of each frame: last latent and picture, channels last."""

    def __init__(self, steps):
        self.last, self.labels, self.seen = steps - 1, None, {}

    def keep(self, frame, name, tensor):
        self.seen.setdefault(frame, {})[name] = tensor.permute(0, 2, 3, 1).numpy()

    def put(self, name, tensor):
        if not self.labels or name not in ("x0", "image"):
            return
        for r, label in enumerate(self.labels):
            kind, number, *step = label.split(".")
            if kind == "warmup" and int(number) == self.last:
                for frame in range(len(tensor)):
                    self.keep(frame, name, tensor[frame:frame + 1])
            elif kind == "frame" and (not step or int(step[1]) == self.last):
                self.keep(int(number), name, tensor[r:r + 1])


def parity(bench):
    """The C program against the PyTorch stream, every frame: last latent and picture, before 8 bits."""
    count, runtime, style = bench.scale.parity, bench.runtime, STYLES[0]
    frames = material.moving(bench.stills, 2, count, bench.scale.size)[0]
    indices, _, total = runtime.steps.partition("/")
    indices = [int(i) for i in indices.split(",")]
    tap = Tap(len(indices))
    stream = Stream(bench.reference, grammar.CANONICAL[style], bench.scale.size, bench.scale.size,
                    t_index_list=indices, num_inference_steps=int(total),
                    noise=None if runtime.noise == "model" else runtime.noise, recorder=tap)
    for index, _ in stream.run(list(frames)):
        if index % 25 == 24:
            bench.say(f"parity: PyTorch, frame {index + 1} of {count}")
    result = {"frames": count}
    for precision in ("fp16", "fp32"):
        latents, pictures = [], []
        for index, got in runtime.dump(frames, grammar.CANONICAL[style], precision):
            latents.append((np.array(got[f"step.{tap.last}/x0"]), tap.seen[index]["x0"]))
            pictures.append((np.array(got["image"]), tap.seen[index]["image"]))
            if index % 25 == 24:
                bench.say(f"parity: C, {precision}, frame {index + 1} of {count}")
        for name, pairs in (("latent", latents), ("picture", pictures)):
            whole, worst = measures.relative_l2(pairs)
            result.setdefault(precision, {})[name] = {"whole": whole, "worst": worst}
    return result


ALL = {f.__name__: f for f in (autoencoder, teacher, clips, cache, flicker, words, palettes, parity, drift)}
