# SPDX-License-Identifier: Apache-2.0
"""Teaches the text encoder to tell styles and palettes apart, before the denoiser listens to it.

A throw-away linear head must name both from the mean of the embeddings after the prompt's end. Two
minutes of this spare the denoiser many in which every prompt would look alike to it.
"""
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import bpe
import common
import data
import grammar
from model.clip_text import ClipText


def looks(rng, count):
    """Random looks: (style's name or None, palette or None)."""
    styles, palettes = [None] + data.STYLES, [None] + data.PALETTES
    return [(grammar.pick(rng, styles), grammar.pick(rng, palettes) if rng.random() < .6 else None)
            for _ in range(count)]


def logits(text, head, tokenizer, prompts, device):
    ids = torch.tensor([tokenizer.encode(p) for p in prompts], device=device)
    after = (ids == ids.max()).float()[..., None]       # the end token, and the padding like it
    return head((text(ids).float() * after).sum(1) / after.sum(1)).split(
        [1 + len(data.STYLES), 1 + len(data.PALETTES)], 1)


@torch.no_grad()
def accuracy(text, head, tokenizer, device):
    """Shares of right answers: styles of seen and of unseen phrases."""
    rng, shares = np.random.default_rng(7), []
    for phrases in (lambda s: [grammar.prompt(rng, s) for _ in range(20)],
                    lambda s: grammar.UNSEEN[s]):
        right = [(logits(text, head, tokenizer, phrases(s), device)[0].argmax(1) == 1 + i).float()
                 for i, s in enumerate(data.STYLES)]
        shares.append(torch.cat(right).mean().item())
    return shares


def work(args):
    torch.manual_seed(args.seed)
    config = common.read_config(args.config)["text"]
    tokenizer, text = bpe.tokenizer(config), ClipText(config)
    head = nn.Linear(config["hidden_size"], 2 + len(data.STYLES) + len(data.PALETTES))
    stage = common.Stage("text", {"text": text, "head": head}, args)
    running = stage.progress < 1
    while running:
        rng = np.random.default_rng(stage.seeds()[1])
        wanted = looks(rng, args.batch)
        style, palette = logits(text, head, tokenizer,
                                [grammar.prompt(rng, s, p) for s, p in wanted], args.device)
        styles = [0 if s is None else 1 + data.STYLES.index(s) for s, _ in wanted]
        palettes = [0 if p is None else 1 + data.PALETTES.index(p) for _, p in wanted]
        loss = F.cross_entropy(style, torch.tensor(styles, device=args.device)) \
            + F.cross_entropy(palette, torch.tensor(palettes, device=args.device))
        running = stage.update(loss)
    if common.rank() == 0:
        stage.modules.load_state_dict(stage.ema)
        seen, unseen = accuracy(text, head, tokenizer, args.device)
        print(f"style recognised: phrases of the grammar {seen:.3f}, unseen {unseen:.3f}")


if __name__ == "__main__":
    common.launch(work, common.arguments(__doc__, minutes=2, batch=64, lr=1e-3).parse_args())
