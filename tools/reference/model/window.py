# SPDX-License-Identifier: Apache-2.0
"""Which frames a temporal attention sees, at which positional index, and the KV cache behind it.

Frames 0..sinks-1 (the warm-up) see each other, both ways. A later frame f sees them and the last
size-sinks frames up to itself; its own index and that of a key g are
    index(f) = min(f, size-1),   index(g) = g while the window fills, then size-1 - (f-g).
The rule depends on frame numbers only, so one function serves a clip and a stream.
"""
import torch


def look(query, key, sinks, size):
    """Frame numbers query [..., Q], key [..., K] -> (query_pos [..., Q], key_pos and visible [..., Q, K])."""
    f, g = query[..., :, None], key[..., None, :]
    visible = (g >= 0) & (g < sinks) | (f >= sinks) & (g >= sinks) & (g <= f) & (g > f - (size - sinks))
    key_pos = torch.where((g < sinks) | (f < size), g, size - 1 - (f - g))
    return query.clamp(max=size - 1), key_pos.clamp(0, size - 1), visible


def quantized(x, heads):
    """x [..., C] as a cache of bytes gives it back: in each head a byte times a step. The step is max |x| / 127,
    rounded up to the upper half of a float32, so that a byte always fits."""
    y = x.float().unflatten(-1, (heads, -1))
    step = (y.abs().amax(-1, keepdim=True) / 127).view(torch.int32)
    step = ((step + 0xffff) & -0x10000).view(torch.float32)
    return (torch.round(y / step.clamp(min=1e-38)) * step).flatten(-2).to(x.dtype)


class KvCache:
    """Keys and values, without positional term: per temporal attention [steps, pixels, slots, 2, C].

    heads: keep them in bytes, see `quantized`. A frame sees its own (in the warm-up: all eight) as they are.
    """

    def __init__(self, steps, sinks=8, size=16, heads=None):
        self.steps, self.sinks, self.size, self.heads = steps, sinks, size, heads
        self.kv = {}

    def stored(self, x):
        return x if self.heads is None else quantized(x, self.heads)

    def at(self, index, k):
        if index not in self.kv:
            self.kv[index] = k.new_zeros(self.steps, k.shape[2], self.size, 2, k.shape[3])
        return self.kv[index]


class ClipWindow:
    """A whole clip at once: warm-up (frames 0..7, filling step `row` of a cache) or training.

    `frames` [F], or [clips, F] where clips differ, are ascending frame numbers; gaps are allowed. The
    rows of the UNet's input are clips * F, a clip's frames side by side.
    """

    def __init__(self, frames, cache=None, row=0, sinks=8, size=16, device=None):
        frames = torch.as_tensor(frames, device=device)
        self.frames = frames[None] if frames.dim() == 1 else frames
        self.tables = look(self.frames, self.frames, sinks, size)
        self.num_positions, self.length = size, frames.shape[-1]
        self.cache, self.row = cache, row

    def keys(self, index, k, v):
        """k, v [clips, F, pixels, C] of this call -> those to attend to, [clips, keys, pixels, C]."""
        if self.cache is not None:
            slots = self.cache.at(index, k)[self.row, :, :self.length]
            slots[:, :, 0], slots[:, :, 1] = (self.cache.stored(x[0]).transpose(0, 1) for x in (k, v))
        return k, v


class StreamWindow:
    """One new frame per row: row r carries frame frames[r] and owns step rows[r] of the cache."""

    length = 1

    def __init__(self, frames, cache, rows=None, device=None):
        sinks, size = cache.sinks, cache.size
        frames = torch.as_tensor(frames, device=device)
        self.cache, self.num_positions = cache, size
        self.rows = torch.as_tensor(list(range(len(frames)) if rows is None else rows), device=device)
        self.slot = sinks + (frames - sinks) % (size - sinks)
        slots = torch.arange(size, device=device).expand(len(frames), size)
        age = (self.slot[:, None] - slots) % (size - sinks)
        self.held = torch.where(slots < sinks, slots, frames[:, None] - age)   # the frame in each slot
        self.held = self.held.where((slots < sinks) | (self.held >= sinks), torch.full_like(slots, -1))
        self.tables = look(frames[:, None], self.held, sinks, size)

    def keys(self, index, k, v):
        cache = self.cache.at(index, k)
        own = torch.stack([k[:, 0], v[:, 0]], 2)                     # [rows, pixels, 2, C]
        cache[self.rows, :, self.slot] = torch.stack([self.cache.stored(x) for x in own.unbind(2)], 2)
        held = cache[self.rows].transpose(1, 2)      # [rows, slots, pixels, 2, C], a copy
        if self.cache.heads is not None:
            held[torch.arange(len(own), device=own.device), self.slot] = own
        return held[:, :, :, 0], held[:, :, :, 1]
