# SPDX-License-Identifier: Apache-2.0
"""What a training step is made of: every random choice but the noise, as NumPy arrays.

Recipes know nothing of the device: a few processes make them in advance, so that a GPU need not wait
for words to be tokenized. The step's number decides what is in one, not who makes it or when.
"""
import collections
import multiprocessing

import numpy as np

import data
import grammar

MOVE = 5        # pixels that a picture's second view may be moved by
FRAMES = 16     # of a clip: the warm-up, and as many again


class Words:
    """Random prompts for looks as token ids. Spaces part tokens, so each word is tokenized once."""

    def __init__(self, tokenizer):
        self.tokenizer, self.known = tokenizer, {}

    def ids(self, text):
        ids = []
        for word in text.split(" "):
            if word not in self.known:
                self.known[word] = self.tokenizer.tokens(word)
            ids += self.known[word]
        t = self.tokenizer
        start, end = t.encode("")[:2]
        ids = [start, *ids[:t.length - 2], end]
        return ids + [end] * (t.length - len(ids))

    def prompts(self, rng, styles, palettes):
        said = [grammar.prompt(rng, data.STYLES[s] if s >= 0 else None, data.PALETTES[p - 1] if p else None)
                for s, p in zip(styles, palettes)]
        return np.array([self.ids(text) for text in said], np.int64)


def some_of(rng, items, count=None):
    return items[rng.integers(len(items), size=count)]


def looks(rng, count, plain):
    """Numbers of styles, -1 for the picture as it is, and of palettes, 0 for none."""
    styles = np.where(rng.random(count) < plain, -1, rng.integers(len(data.STYLES), size=count))
    return styles, np.where(rng.random(count) < .4, rng.integers(len(data.PALETTES), size=count) + 1, 0)


def plan(rng, progress):
    """Which schedule, and which of its steps, to learn now; first steps come first."""
    schedule = int(rng.choice(3, p=[.4, .45, .15]))
    last = int(rng.integers(4)) if schedule == 2 else schedule
    return schedule, last if progress > .2 else 0


def image(photos, words, shared, own, progress, crop, batch):
    """Squares of photos; every third comes twice, and moved by a few pixels.

    Some steps take fewer and larger squares, so that a look does not depend on the size.
    """
    step = {"plan": plan(shared, progress)}
    short = np.minimum(photos.width, photos.height)
    size = crop + int(64 * shared.choice(3, p=[.5, .3, .2])) if progress > .3 else crop
    size = size if short.max() >= size + MOVE else crop
    count = max(1, batch * crop**2 // size**2)
    twins = max(1, count // 3)
    singles = max(1, count - twins)
    room = size + MOVE
    chosen = some_of(own, np.flatnonzero(short >= room), singles)
    width, flip = photos.width[chosen], own.random(singles) < .5
    top = (own.random(singles) * (photos.height[chosen] - room + 1)).astype(np.int64)
    left = (own.random(singles) * (width - room + 1)).astype(np.int64)
    dy, dx = (int(i) for i in own.integers(0, MOVE + 1, 2))
    styles, palettes = looks(own, singles, .1)

    def views(x, moved=0):
        return np.concatenate([x, x[:twins] + moved])

    # A mirrored square's second view lies to the other side.
    corner = views(photos.start[chosen] + top * width + left + np.where(flip, MOVE, 0),
                   dy * width[:twins] + np.where(flip, -dx, dx)[:twins])
    sigma = own.uniform(0, .04, singles + twins) * (own.random(singles + twins) < .3)
    return {**step, "size": size, "twins": twins, "move": (dy, dx), "source": corner,
            "target": corner + views((styles + 1) * photos.area[chosen]), "width": views(width),
            "flip": views(flip * 1) > 0, "palette": views(palettes), "sigma": sigma.astype(np.float32),
            "words": words.prompts(own, styles, palettes)}


def on_path(table, number, style, flip, places):
    """A layer of a clip: for each frame where it looks, and at which pictures."""
    start = table.start[number]
    row = (start, start + (style + 1) * table.area[number], table.width[number], table.height[number], flip)
    return np.tile(np.array(row, np.int64), (len(places), 1)), places


def scene(photos, cutouts, rng, numbers, size, style):
    """The layers of a photo under a moving camera, often with cut-outs before it, the ground first.

    In 25 % of the scenes only cut-outs move; 35 % have one or two of them.
    """
    kind, number = rng.random(), int(rng.integers(len(photos)))
    places = data.camera(rng, numbers, photos.width[number], photos.height[number], size,
                         still=kind < .3, spread=.2)
    layers = [on_path(photos, number, style, rng.random() < .5, places)]
    if len(cutouts) and (kind < .25 or kind > .9):
        for _ in range(int(rng.integers(1, 3))):
            number = int(rng.integers(len(cutouts)))
            places = data.passer(rng, numbers, cutouts.width[number], cutouts.height[number], size)
            layers.append(on_path(cutouts, number, style, rng.random() < .5, places))
    return layers


def nothing(count):
    """A layer that is not to be seen."""
    return np.tile(np.array([0, 0, 1, 1, 0], np.int64), (count, 1)), np.tile(np.float32([-9e4, 0, 1, 0]), (count, 1))


def layers_of(photos, cutouts, rng, numbers, size, style):
    """Those of a clip, which is one scene or, 5 % of them, two."""
    if rng.random() >= .05:
        return scene(photos, cutouts, rng, numbers, size, style)
    cut = int(rng.integers(1, len(numbers)))
    parts = [scene(photos, cutouts, rng, part, size, style) for part in (numbers[:cut], numbers[cut:])]
    depth = max(map(len, parts))
    parts = [p + [nothing(len(p[0][1]))] * (depth - len(p)) for p in parts]
    return [tuple(np.concatenate(both) for both in zip(*pair)) for pair in zip(*parts)]


def clip(photos, cutouts, words, shared, own, size, count):
    """Clips: a still and its styled version under the same smooth camera, with cut-outs that pass by.

    The target so sticks to the surfaces. Only the source gets exposure drift and sensor noise, and the
    network learns to be calmer than its input. `share` is what the noises of a clip's frames have in common.
    """
    step = {"plan": plan(shared, 1)}
    styles, palettes = looks(own, count, .08)
    first = np.where(own.random(count) < .4, 8, own.integers(9, 160, count))
    half = np.arange(FRAMES // 2)
    numbers = np.concatenate([np.tile(half, (count, 1)), first[:, None] + half], 1)
    layers = [layers_of(photos, cutouts, own, n, size, s) for n, s in zip(numbers, styles)]
    depth = max(map(len, layers))

    def stacked(which, level):
        pictures, places = zip(*(layers[c][level] for c in which))
        return {"clip": np.array(which), "pictures": np.stack(pictures), "places": np.stack(places)}

    passing = [stacked([c for c, l in enumerate(layers) if len(l) > level], level) for level in range(1, depth)]
    lit = own.random(count) < .5
    drift = .06 * own.random((count, 1)) * np.sin(numbers * own.uniform(.03, .15, (count, 1))) * lit[:, None]
    # Four neighbours of each clip are looked at as pictures.
    runs = [np.flatnonzero(n[3:] == n[:-3] + 3) for n in numbers]
    starts = np.array([some_of(own, r) for r in runs])
    return {**step, "numbers": numbers, "ground": stacked(range(count), 0), "passing": passing,
            "drift": drift.astype(np.float32), "sigma": (own.uniform(0, .04, count) * lit).astype(np.float32),
            "palette": palettes, "words": words.prompts(own, styles, palettes),
            "run": starts[:, None] + np.arange(4),
            "share": np.where(own.random(count) < .6, 1, own.random(count)).astype(np.float32)}


make = None             # in a process that makes recipes


def become_maker(function):
    global make
    make = function


def made(arguments):
    return make(*arguments)


class Recipes:
    """What `make` gives for successive steps; workers, if any, make it in advance.

    They are forked: ask for them before the device is used.
    """

    def __init__(self, make, workers):
        self.make, self.workers, self.waiting, self.step = make, workers, collections.deque(), None
        if workers:
            self.pool = multiprocessing.get_context("fork").Pool(workers, become_maker, (make,))

    def next(self, step, arguments):
        """That of `step`, one after the one before; arguments(step) are make's."""
        if not self.workers:
            return self.make(*arguments(step))
        self.step = step if self.step is None else self.step
        while len(self.waiting) <= 2 * self.workers:
            self.waiting.append(self.pool.apply_async(made, (arguments(self.step),)))
            self.step += 1
        return self.waiting.popleft().get()

    def close(self):
        if self.workers:
            self.pool.terminate()
