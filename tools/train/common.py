# SPDX-License-Identifier: Apache-2.0
"""What every training stage shares: processes, wall-clock schedule, moving average, checkpoints."""
import argparse
import contextlib
import json
import math
import os
import signal
import sys
import tempfile
import time

import numpy as np
import torch
import torch.distributed as dist

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "reference"))


def arguments(doc, minutes, batch, lr):
    p = argparse.ArgumentParser(description=doc)
    p.add_argument("--data", required=True, help="folder with cache/ and checkpoints")
    p.add_argument("--config", default=os.path.join(HERE, "paint-s.json"))
    p.add_argument("--minutes", type=float, default=minutes, help="training time of this stage")
    p.add_argument("--batch", type=int, default=batch, help="of each process")
    p.add_argument("--lr", type=float, default=lr)
    p.add_argument("--crop", type=int, default=128)
    p.add_argument("--processes", type=int, default=0, help="0: one a core, on a GPU one")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--limit", type=int, default=None, help="use only so many photos (for tests)")
    p.add_argument("--bf16", action="store_true", default=torch.cuda.is_available(),
                   help="bfloat16 arithmetic: quicker on a GPU, and on a CPU with AVX512-BF16")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--name", default=None, help="of the checkpoint; default: the stage's")
    return p


def read_config(path):
    with open(path) as f:
        return json.load(f)


def member(rank, work, args, meeting):
    """One of several processes, each with its own thread and its own share of the data.

    It gets SIGINT when the first process dies, which a background job would ignore.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=args.processes)
    work(args)
    dist.destroy_process_group()


def launch(work, args):
    """Runs work(args) in as many processes as asked for; on small networks on a CPU these are
    faster than threads. Their gradients are averaged in Stage.update()."""
    if not args.processes:
        args.processes = 1 if args.device != "cpu" else len(os.sched_getaffinity(0))
    if args.device == "cpu":
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // args.processes))
    if args.processes == 1:
        work(args)
        return
    os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(member, (work, args, os.path.join(folder, "meeting")),
                                    nprocs=args.processes)


def rank():
    return dist.get_rank() if dist.is_initialized() else 0


def wait():
    """Until all processes are here."""
    if dist.is_initialized():
        dist.barrier()


def to_device(arrays, device):
    """A nest of dicts and lists with its NumPy arrays as tensors. A GPU is not waited for."""
    if isinstance(arrays, dict):
        return {name: to_device(value, device) for name, value in arrays.items()}
    if isinstance(arrays, list):
        return [to_device(value, device) for value in arrays]
    if not isinstance(arrays, np.ndarray):
        return arrays
    tensor = torch.from_numpy(arrays)
    return tensor if device == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


class Stage:
    """One training stage: optimizer, EMA, and a schedule measured in seconds of training.

    The learning rate warms up over the first 200 steps and then falls along a cosine that reaches
    its end when `minutes` are used up, however fast the machine is. A checkpoint holds everything,
    so that a stopped stage goes on where it was when started again.
    """

    def __init__(self, name, modules, args, groups=None):
        self.modules, self.args = torch.nn.ModuleDict(modules), args
        name = args.name or name
        self.path = os.path.join(args.data, f"{name}.pt")
        self.modules.to(args.device, memory_format=torch.channels_last)
        groups = groups or [{"params": list(self.modules.parameters()), "scale": 1.0}]
        for g in groups:
            g["lr"] = args.lr
        fused = {} if args.device == "cpu" else {"fused": True}
        self.optimizer = torch.optim.AdamW(groups, betas=(.9, .99), weight_decay=1e-3, **fused)
        self.ema = {k: v.detach().clone() for k, v in self.modules.state_dict().items()}
        self.step, self.used, self.saved_at, self.further = 0, 0.0, 0.0, False
        if os.path.exists(self.path):
            self.resume(name, torch.load(self.path, map_location=args.device))
        pairs = [(self.ema[k], v) for k, v in self.modules.state_dict().items() if v.is_floating_point()]
        self.averages, self.live = ([p[i] for p in pairs] for i in (0, 1))
        self.logs, self.mark = {}, time.time()

    def resume(self, name, state):
        """Goes on from a checkpoint; one without a past (unpack.py) only gives its weights, to train `further`."""
        self.ema.update({k: v.clone() for k, v in state["ema"].items()})
        self.modules.load_state_dict(state.get("model", self.ema))
        self.further = state.get("further", "optimizer" not in state)
        if "optimizer" in state:
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.used, self.saved_at = state["step"], state["used"], state["used"]
        if rank() == 0:
            print(f"resumed {name} at step {self.step}, {self.used / 60:.1f} min", flush=True)

    @property
    def progress(self):
        return min(1.0, self.used / (60 * self.args.minutes))

    def autocast(self):
        if not self.args.bf16:
            return contextlib.nullcontext()
        return torch.autocast(self.args.device.split(":")[0], torch.bfloat16)

    def seeds(self, step=None):
        """Seeds for a step, this one by default, the same however often the run was resumed: one that the
        processes share, for what they do, and one of each, for its data and noise."""
        common = (self.args.seed * 1_000_003 + (self.step if step is None else step)) * 64
        return common, common + 1 + rank()

    def share(self):
        """Takes the time and averages gradients. The time is the first process's, so that all of
        them end with the same step."""
        now = time.time()
        self.used, self.mark = self.used + now - self.mark, now
        if not dist.is_initialized():
            return
        grads = [p.grad for p in self.modules.parameters() if p.grad is not None]
        used = torch.tensor([self.used if rank() == 0 else 0.0])
        flat = torch.cat([g.flatten() for g in grads] + [used])
        dist.all_reduce(flat)
        for g, part in zip(grads, flat.split([g.numel() for g in grads] + [1])):
            g.copy_(part.view_as(g) / dist.get_world_size())
        self.used = flat[-1].item()

    def update(self, loss, **logs):
        """One optimizer step; False when the stage's time is over."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.share()
        rate = self.args.lr * min(1, (self.step + 1) / 200)
        rate *= .02 + .98 * .5 * (1 + math.cos(math.pi * self.progress))
        for g in self.optimizer.param_groups:
            g["lr"] = rate * g.get("scale", 1.0)
        torch.nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(.999, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_mul_(self.averages, decay)
            torch._foreach_add_(self.averages, self.live, alpha=1 - decay)
        self.log({"loss": loss, **logs})
        over = self.progress >= 1
        if (over or self.used - self.saved_at > 120) and rank() == 0:
            self.save()
        return not over

    def log(self, values):
        """Averages over some steps, kept on the device: it is asked for them now and then only."""
        for k, v in values.items():
            v = v.detach().float() if torch.is_tensor(v) else torch.tensor(float(v))
            self.logs[k] = torch.lerp(self.logs[k], v, .02) if k in self.logs else v
        if self.step % 100 == 0:
            line = " ".join(f"{k} {v:.4f}" for k, v in self.figures().items())
            if rank() == 0:
                print(f"step {self.step} {self.used / 60:.1f} min {self.step / self.used:.2f}/s {line}", flush=True)

    def figures(self):
        figures = {k: v.item() for k, v in self.logs.items()}
        if not math.isfinite(figures["loss"]):
            raise SystemExit(f"step {self.step}: the loss is not finite; start again with a lower --lr")
        return figures

    def save(self):
        self.figures()      # broken weights are not kept
        state = {"model": self.modules.state_dict(), "ema": self.ema, "step": self.step,
                 "optimizer": self.optimizer.state_dict(), "used": self.used, "further": self.further}
        torch.save(state, self.path + ".part")
        os.replace(self.path + ".part", self.path)
        self.saved_at = self.used


def load_ema(path, name):
    """The averaged weights of one module of a checkpoint."""
    state = torch.load(path, map_location="cpu")["ema"]
    return {k[len(name) + 1:]: v for k, v in state.items() if k.startswith(name + ".")}
