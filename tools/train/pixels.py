# SPDX-License-Identifier: Apache-2.0
"""All pictures of the training set on the device, from which whole batches are taken at once.

Photos and cut-outs with their styled versions lie one behind the other in one flat array of pixels
of four bytes, RGB and the cut-outs' alpha. A pixel's address is its place in that array.
"""
import json
import multiprocessing.pool
import os

import numpy as np
import torch

import common
import data


class Table:
    """Where pictures lie: NumPy arrays of each one's first address, width and height."""

    def __init__(self, start, sizes):
        self.height, self.width = (np.array([s[i] for s in sizes], np.int64) for i in (0, 1))
        self.area = self.height * self.width
        ends = start + np.cumsum(self.area * (1 + len(data.STYLES)))
        self.start = np.concatenate([[start], ends])[:len(sizes)].astype(np.int64)
        self.end = int(ends[-1]) if len(sizes) else start

    def __len__(self):
        return len(self.start)


def tables(stills):
    """Of photos and of cut-outs."""
    photos = Table(0, [s.shape[1:3] for s in stills.stacks])
    return photos, Table(photos.end, [alpha.shape for _, alpha in stills.cutouts])


class Pixels:
    """The array, in the device's memory or, on a CPU, in a file that all processes map."""

    def __init__(self, stills, folder, device):
        self.photos, self.cutouts = tables(stills)
        if device != "cpu":
            self.flat = torch.empty(self.cutouts.end, dtype=torch.int32, device=device)
            self.fill(stills)
            return
        path = os.path.join(folder, "pixels")
        names = [os.path.getmtime(f"{folder}/cache"), os.path.getmtime(f"{folder}/cutouts"), *stills.names]
        if common.rank() == 0 and not self.is_file_of(path, names):
            self.flat = self.mapped(path)
            self.fill(stills)
            with open(path + ".json", "w") as f:
                json.dump(names, f)
        common.wait()
        self.flat = self.mapped(path)

    def mapped(self, path):
        return torch.from_file(path, shared=True, size=self.cutouts.end, dtype=torch.int32)

    def is_file_of(self, path, names):
        if not os.path.exists(path + ".json") or os.path.getsize(path) != 4 * self.cutouts.end:
            return False
        with open(path + ".json") as f:
            return json.load(f) == names

    def fill(self, stills):
        stacks = [(stack, None) for stack in stills.stacks] + stills.cutouts
        starts = np.concatenate([self.photos.start, self.cutouts.start]).tolist()
        with multiprocessing.pool.ThreadPool(8) as pool:
            pool.starmap(self.put, zip(starts, stacks))

    def put(self, start, picture):
        stack, alpha = picture
        rgba = torch.full((*stack.shape[:3], 4), 255, dtype=torch.uint8, device=self.flat.device)
        rgba[..., :3] = torch.from_numpy(stack).to(rgba.device)
        if alpha is not None:
            rgba[..., 3] = torch.from_numpy(alpha).to(rgba.device)
        self.flat[start:start + rgba.numel() // 4] = rgba.view(torch.int32).flatten()

    def at(self, address):
        """uint8 [...,4]"""
        return self.flat[address][..., None].view(torch.uint8)

    def crops(self, corner, width, flip, size):
        """[N,3,S,S] in [-1, 1]: squares by the address of their top left pixel, their picture's width, and
        whether they are mirrored, all [N]."""
        row = torch.arange(size, device=corner.device)
        column = torch.where(flip[:, None], size - 1 - row, row)
        address = (corner[:, None] + width[:, None] * row)[..., None] + column[:, None]
        return picture(self.at(address))

    def sampled(self, starts, width, height, flip, path, reflect):
        """For each of `starts`, the first addresses of the frames' pictures [...,F]: the frames [...,F,S,S,4] in
        0..255. Beyond its border a picture is either reflected or nothing, of alpha 0."""
        width, height, flip = (v[..., None, None] for v in (width, height, flip))
        x, y = path.points()
        x = torch.where(flip, width - 1 - x, x)
        if reflect:
            x, y = reflected(x, width), reflected(y, height)
        left, top = x.floor(), y.floor()
        frames = [0.] * len(starts)
        for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
            for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
                share = share_x * share_y
                if not reflect:
                    share = share * ((column >= 0) & (column < width) & (row >= 0) & (row < height))
                address = torch.minimum(row.clamp(min=0).long(), height - 1) * width \
                    + torch.minimum(column.clamp(min=0).long(), width - 1)
                for i, start in enumerate(starts):
                    frames[i] = frames[i] + share[..., None] * self.at(start[..., None, None] + address)
        return frames


def reflected(x, length):
    """Positions of pixels, mirrored at the picture's borders until they lie within."""
    return length - ((x + .5).remainder(2 * length) - length).abs() - .5


def picture(rgba):
    """[...,S,S,4] in 0..255 -> [...,3,S,S] in [-1, 1], alpha left out."""
    return rgba[..., :3].movedim(-1, -3).float() / 127.5 - 1


def clips(pixels, recipe, size):
    """Clips by recipes.clip(): sources and targets [clips*F,3,S,S], and Path.back() [clips,F-1,S,S,2].

    Where there was a scene cut, `back` means nothing.
    """
    def layer(of, reflect):
        path = data.Path(of["places"], size)
        source, target, width, height, flip = of["pictures"].unbind(-1)
        return pixels.sampled((source, target), width, height, flip > 0, path, reflect), path.back()

    (source, target), back = layer(recipe["ground"], True)
    for passing in recipe["passing"]:
        over, moved = layer(passing, False)
        clip, alpha = passing["clip"], over[0][..., 3:] / 255
        for frames, above in zip((source, target), over):
            frames[clip] = frames[clip] + (above - frames[clip]) * alpha
        back[clip] = torch.where(alpha[:, 1:] > .5, moved, back[clip])
    source, target = picture(source), picture(target)
    source = (source + 1) * (1 + recipe["drift"][..., None, None, None]) - 1
    source = source + recipe["sigma"][:, None, None, None, None] * torch.randn_like(source)
    palettes = recipe["palette"][:, None].expand(source.shape[:2]).flatten()
    return source.clamp(-1, 1).flatten(0, 1), data.grade_each(palettes, target.flatten(0, 1)), back
