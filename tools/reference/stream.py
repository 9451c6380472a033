# SPDX-License-Identifier: Apache-2.0
"""The streaming pipeline in PyTorch, fp32: RGB frames in, RGB frames out, and every named activation on request.

    for index, rgb in Stream(load_model(folder), "a prompt", 256, 256).run(frames): ...

Warm-up on frames 0..7, then one frame at a time with a KV cache. A frame f at step k depends only on
(f, k-1) and on cache row k, so the batched and the sequential schedule are one function: `batch` keeps up
to D frames in flight, otherwise each frame is drained before the next is taken.

A frame keeps the text that it began with, and its own place in the window. What changes on the way is said by
frame: `changes` {F: {"prompt": text, "fade": frames}, or {"rewarm": from}}: "kept", the sinks again under the
frame's text; "newest", the 8 frames before it, or "still", 8 times the frame itself, with the window begun anew.
"""
import re

import numpy as np
import torch

from model import dpt
from model.noise import normal
from model.scheduler import Scheduler
from model.structure import luma
from model.window import ClipWindow, KvCache, StreamWindow

RECORDED = {
    "vae": re.compile(r"(encoder|decoder)\.(layers\.\d+|((down|up)_blocks\.\d+|mid_block)\.\w+\.\d+|conv_in)|"
                      r"encoder\.conv_out"),
    "text": re.compile(r"text_model\.(encoder\.layers\.\d+|final_layer_norm)"),
    "unet": re.compile(r"((down|up)_blocks\.\d+|mid_block)\.\w+\.\d+|conv_in|flow_conv_in|conv_out"),
    "depth": re.compile(r"pretrained\.(model\.(patch_embed\.backbone\.(stem|stages\.\d\.blocks\.\d+)|blocks\.\d+)|"
                        r"act_postprocess[34])|scratch\.(layer\d_rn|refinenet(1|\d\.resConfUnit\d)|output_conv\.[03])"),
}
PREFIX = {"vae": "vae.", "text": "", "unet": "unet.", "depth": "depth."}


class Recorder:
    """Hands activations to sink("LABEL/NAME", tensor): channels last, one label for all rows or one a row.

    Labels are `text`, `frame.F`, `warmup.K` (8 rows), `rewarm.F.K` (8 rows, for frame F) and `frame.F.step.K`.
    """

    def __init__(self, model, sink):
        self.sink, self.labels, self.prefix = sink, None, ""
        self.handles = [
            module.register_forward_hook(lambda m, i, out, name=PREFIX[part] + name: self.put(name, out))
            for part, network in model.parts().items() for name, module in network.named_modules()
            if RECORDED[part].fullmatch(name)]

    def put(self, name, tensor):
        if not self.labels:
            return
        name = self.prefix + name
        if tensor.dim() == 4:
            tensor = tensor.permute(0, 2, 3, 1)
        if len(self.labels) == 1:
            self.sink(f"{self.labels[0]}/{name}", tensor)
        else:
            for label, row in zip(self.labels, tensor):
                self.sink(f"{label}/{name}", row[None])

    def close(self):
        for handle in self.handles:
            handle.remove()


class Silent:
    labels, prefix = None, ""

    def put(self, name, tensor):
        pass


class Frame:
    """A frame on its way: clean latent z, latent x at its present step, what its structure is made of, the mapped
    structure, and x0 once a step is done. stock: the residual noise of guidance, at first the noise that was added.
    base: the window takes the frame for number index - base."""

    def __init__(self, index, z, x, source, stock, text, base):
        self.index, self.z, self.x, self.source, self.stock = index, z, x, source, stock
        self.text, self.base, self.cond, self.x0 = text, base, None, None


class Stream:
    def __init__(self, model, prompt, width, height, seed=0, t_index_list=None, num_inference_steps=None,
                 noise=None, batch=False, recorder=None, syntax="numbers",
                 prediction=None, guidance_mode="none", guidance=1.0, guidance_delta=1.0, negative="", changes=None,
                 kv_cache=None):
        config = dict(model.config["scheduler"])
        config["t_index_list"] = t_index_list or config["t_index_list"]
        config["num_inference_steps"] = num_inference_steps or config["num_inference_steps"]
        config["prediction"] = prediction or config["prediction"]
        kwargs = model.config["unet"]["motion_module_kwargs"]
        self.model, self.seed, self.batch, self.recorder = model, seed, batch, recorder or Silent()
        self.structure, self.range = model.config["structure"], None
        self.shared_noise = (noise or config["noise"]) == "shared"
        self.latent = (height // 8, width // 8, model.config["vae"]["latent_channels"])
        self.device = next(model.unet.parameters()).device
        self.scheduler = Scheduler(config)
        self.steps, self.sinks = len(self.scheduler), kwargs["sink_size"]
        shape = self.sinks, kwargs["window_size"], kwargs["num_attention_heads"] if kv_cache == "int8" else None
        self.cache = KvCache(self.steps, *shape)
        self.mode, self.guidance, self.delta = guidance_mode if guidance > 1 else "none", guidance, guidance_delta
        negative_steps = {"none": 0, "self": 0, "initialize": 1, "full": self.steps}[self.mode]
        self.negative_cache = KvCache(negative_steps, *shape)
        self.in_flight = []                               # [frame, next step], oldest first
        self.changes, self.syntax, self.base = changes or {}, syntax, 0
        self.fade, self.recent, self.kept = [], [], []    # texts to come; the last 8 frames; those of the sinks
        self.rewarm = None                                # (frame that it begins with, the sinks to be)
        with torch.no_grad():
            blended = len(model.prompt_parts(prompt, syntax)) > 1      # the tower then runs for each part
            self.recorder.labels = None if blended else ["text"]
            self.text = model.prompt_embedding(prompt, syntax)
            self.recorder.labels = ["text"]
            self.recorder.put("text_model.context", self.text)
            self.recorder.labels = None
            self.negative = model.prompt_embedding(negative, syntax, "{}")

    def noise(self, frame, step):
        n = normal(self.seed, 0 if self.shared_noise else frame, step, *self.latent)
        return torch.from_numpy(n).permute(2, 0, 1)[None].to(self.device)

    def enter(self, index, rgb):
        """uint8 [H, W, 3] -> Frame with its first noisy latent, not yet conditioned."""
        record, vae = self.recorder, self.model.vae
        image = torch.from_numpy(np.array(rgb)).to(self.device).permute(2, 0, 1)[None].float() / 255 * 2 - 1
        record.labels = [f"frame.{index}"]
        z = vae.encode(image)
        record.put("latent.image", z)
        noise = self.noise(index, 0)
        x = self.scheduler.add_noise(z, noise, 0)
        frame = Frame(index, z, x, self.source(image, z), noise, self.text, self.base)
        self.recent = self.recent[1 - self.sinks:] + [frame]
        return frame

    def source(self, image, z):
        """What an image's structure is made of; z is its own latent."""
        if self.structure["type"] != "depth":
            return luma(image) if self.structure["type"] == "luma" else z
        depth = self.model.depth(image)
        self.recorder.put("depth", depth)
        return depth

    def pictures(self, frames):
        """The structure images of frames that came together: their depths have one range."""
        if self.structure["type"] == "luma":
            return [frame.source for frame in frames]
        maps, size = torch.cat([frame.source for frame in frames]), [8 * side for side in self.latent[:2]]
        if self.structure["normalize"] == "frame":
            return dpt.normalised(maps, size).split(1)
        pictures = []
        for depth in maps.split(1):
            new = torch.stack([depth.min(), depth.max()])
            self.range = new if self.range is None else self.range + dpt.SMOOTHING * (new - self.range)
            pictures.append(dpt.normalised(depth, size, *self.range))
        return pictures

    def condition(self, frames):
        """Give frames that came together their mapped structure latents, if there is a mapping net."""
        record = self.recorder
        if not self.model.config["unet"]["cond_mapping"]:
            return frames
        if self.structure["type"] == "image":
            latents = [frame.source for frame in frames]
        else:
            pictures = self.pictures(frames)
            record.labels = None                          # the encoder's layers are recorded for the image only
            latents = [self.model.vae.encode(picture) for picture in pictures]
            for frame, picture in zip(frames, pictures):
                record.labels = [f"frame.{frame.index}"]
                record.put("structure", picture)
        for frame, z in zip(frames, latents):
            record.labels = [f"frame.{frame.index}"]
            record.put("latent.structure", z)
            frame.cond = self.model.unet.flow_conv_in(z)
        return frames

    def change_text(self, prompt, fade=1):
        """The next `fade` frames' texts, up to that of a new prompt."""
        new = self.model.prompt_embedding(prompt, self.syntax)
        self.fade = [torch.lerp(self.text, new, (i + 1) / fade) for i in range(fade - 1)] + [new]

    def again(self, frame, index, text):
        """A sink to be, as it was when it came in, with the noise of frame number `index`."""
        noise = self.noise(index, 0)
        sink = Frame(index, frame.z, self.scheduler.add_noise(frame.z, noise, 0), None, noise, text, 0)
        sink.cond = frame.cond
        return sink

    def begin(self, index, image):
        """A frame after the warm-up comes in, with what changes with it."""
        change = self.changes.get(index, {})
        if "prompt" in change:
            self.change_text(change["prompt"], change.get("fade", 1))
        if self.fade:
            self.text = self.fade.pop(0)
        source = change.get("rewarm")
        if source == "newest":
            self.kept = [(frame, frame.index) for frame in self.recent]
        if source in ("newest", "still"):
            self.base = index - self.sinks
        frame, = self.condition([self.enter(index, image)])
        if source == "still":
            self.kept = [(frame, (index + 1 - self.sinks + i) % 2 ** 32) for i in range(self.sinks)]
        if source:
            self.rewarm = index, [self.again(kept, number, self.text) for kept, number in self.kept]
        return frame

    def warm_sinks(self, k):
        """The sinks' keys and values of step k, for the frame that takes it next and all after it."""
        index, sinks = self.rewarm

        def window(cache, rows):
            return ClipWindow(range(self.sinks), cache, k, self.sinks, cache.size, self.device)
        self.denoise([(sink, k) for sink in sinks], window, [f"rewarm.{index}.{k}"])

    def predict(self, rows, window, text, labels):
        """One UNet call on rows [(frame, step)]."""
        x = torch.cat([frame.x for frame, _ in rows])
        cond = None if rows[0][0].cond is None else torch.cat([frame.cond for frame, _ in rows])
        t = torch.tensor([self.scheduler.timesteps[k] for _, k in rows], device=self.device)
        self.recorder.labels = labels
        return self.model.unet(x, t, text, cond, window)

    def predict_negative(self, rows, window, labels):
        """-> {row: what the UNet predicts for the negative prompt}, for the rows whose guidance asks for it."""
        chosen = [r for r, (_, k) in enumerate(rows) if self.mode == "full" or self.mode == "initialize" and k == 0]
        if not chosen:
            return {}
        self.recorder.prefix = "negative."
        part = [rows[r] for r in chosen]
        prediction = self.predict(part, window(self.negative_cache, part), self.negative,
                                  labels if len(labels) == 1 else [labels[r] for r in chosen])
        self.recorder.prefix = ""
        return dict(zip(chosen, prediction[:, None]))

    def guide(self, frame, k, eps, negative):
        """The noise of a step, moved away from that of the negative prompt or from the frame's own.

        Residual guidance is StreamDiffusion's, but that a stock belongs to a frame and is made of the noise
        that this frame gets: Kodaira et al., "StreamDiffusion" (2023), pipeline.py, unet_step.
        """
        if self.mode == "none":
            return eps
        if self.mode == "full":
            return negative + self.guidance * (eps - negative)
        if negative is not None:
            frame.stock = negative
        s, stock = self.scheduler, frame.stock
        eps = self.delta * stock + self.guidance * (eps - self.delta * stock)
        if k + 1 < self.steps:
            step = s.step(s.b[k] * stock, eps, k)
            frame.stock = self.noise(frame.index, k + 1) + s.a[k + 1] * step / s.b[k + 1]
        return eps

    def denoise(self, rows, window, labels):
        """rows [(frame, step)]: one UNet call, then every row's x0 and next x. window(cache, rows): what it sees."""
        self.recorder.labels = labels
        self.recorder.put("x", torch.cat([frame.x for frame, _ in rows]))
        text = torch.cat([frame.text for frame, _ in rows])
        prediction = self.predict(rows, window(self.cache, rows), text, labels)
        negative = self.predict_negative(rows, window, labels)
        self.recorder.labels = labels
        for r, (frame, k) in enumerate(rows):
            if self.mode == "none":
                frame.x0 = self.scheduler.x0(frame.x, prediction[r:r + 1], k)
            else:
                eps, other = (None if p is None else self.scheduler.epsilon(frame.x, p, k)
                              for p in (prediction[r:r + 1], negative.get(r)))
                frame.x0 = self.scheduler.step(frame.x, self.guide(frame, k, eps, other), k)
            if k + 1 < self.steps:
                frame.x = self.scheduler.add_noise(frame.x0, self.noise(frame.index, k + 1), k + 1)
        self.recorder.put("x0", torch.cat([frame.x0 for frame, _ in rows]))

    def leave(self, frame):
        """Frame whose last step is done -> (index, uint8 [H, W, 3])."""
        self.recorder.labels = [f"frame.{frame.index}"]
        image = self.model.vae.decode(frame.x0)
        self.recorder.put("image", image)
        rgb = ((image[0].permute(1, 2, 0) + 1) / 2 * 255).add(0.5).floor().clamp(0, 255)
        return frame.index, rgb.to(torch.uint8).cpu().numpy()

    def warm_up(self, images):
        """The first frames, at most 8; a shorter clip repeats its last one to fill the sinks."""
        padded = images + [images[-1]] * (self.sinks - len(images))
        frames = self.condition([self.enter(i, image) for i, image in enumerate(padded)])
        for k in range(self.steps):
            def window(cache, rows, k=k):
                return ClipWindow(range(self.sinks), cache, k, self.sinks, cache.size, self.device)
            self.denoise([(frame, k) for frame in frames], window, [f"warmup.{k}"])
        self.kept = [(frame, frame.index) for frame in frames]
        return [self.leave(frame) for frame in frames[:len(images)]]

    def advance(self):
        """One UNet call on all frames in flight -> frames that are done."""
        def window(cache, rows):
            return StreamWindow([f.index - f.base for f, _ in rows], cache, [k for _, k in rows], self.device)
        for frame, k in self.in_flight:
            if self.rewarm and frame.index == self.rewarm[0]:
                self.warm_sinks(k)
        self.denoise(self.in_flight, window, [f"frame.{f.index}.step.{k}" for f, k in self.in_flight])
        done = [f for f, k in self.in_flight if k + 1 == self.steps]
        self.in_flight = [(f, k + 1) for f, k in self.in_flight if k + 1 < self.steps]
        return [self.leave(f) for f in done]

    @torch.no_grad()
    def run(self, images):
        """Iterable of uint8 [H, W, 3] -> (index, uint8 [H, W, 3]), as many as came in."""
        first = []
        for index, image in enumerate(images):
            if index < self.sinks:
                first.append(image)
                if len(first) == self.sinks:
                    yield from self.warm_up(first)
                continue
            self.in_flight += [(self.begin(index, image), 0)]
            yield from self.advance()
            while self.in_flight and not self.batch:
                yield from self.advance()
        if 0 < len(first) < self.sinks:
            yield from self.warm_up(first)
        while self.in_flight:
            yield from self.advance()
