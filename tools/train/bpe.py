# SPDX-License-Identifier: Apache-2.0
"""Trains a small byte-level BPE on the prompt grammar and writes it in CLIP's file format.

vocab.json: 256 byte symbols, the same with </w>, the merges, <|startoftext|>, <|endoftext|>.
merges.txt: one header line, then a merge a line. Words outside the grammar fall back to bytes.
Deterministic, so the tokenizer is retrained (a second) wherever it is needed, never stored.
"""
import collections
import json

import common  # noqa: F401  (the path to the reference model)
import grammar
from model.tokenizer import END, START, Tokenizer, byte_symbols, clean, split


def merge(parts, pair):
    out, i = [], 0
    while i < len(parts):
        together = tuple(parts[i:i + 2]) == pair
        out.append(parts[i] + parts[i + 1] if together else parts[i])
        i += 2 if together else 1
    return tuple(out)


def learn_merges(count):
    """The usual greedy pair merging; ties go to the alphabet."""
    symbols, words = byte_symbols(), collections.Counter()
    for phrase in grammar.phrases():
        words.update(split(clean(phrase)))
    corpus = {}
    for word, n in words.items():
        parts = [symbols[b] for b in word.encode("utf-8")]
        corpus[tuple(parts[:-1]) + (parts[-1] + "</w>",)] = n
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for parts, n in corpus.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        corpus = {merge(parts, best): n for parts, n in corpus.items()}
    letters = "etaoinshrdlcumwfgypbvk"      # every word is one token: the rest are common pairs
    spare = [(a, b + end) for end in ("</w>", "") for a in letters for b in letters]
    return (merges + [p for p in spare if p not in set(merges)])[:count]


def build(text_config):
    """(vocab, text of merges.txt) for model.json's "text" section."""
    merges = learn_merges(text_config["vocab_size"] - 514)
    base = list(byte_symbols().values())
    names = base + [s + "</w>" for s in base] + ["".join(p) for p in merges] + [START, END]
    vocab = {name: i for i, name in enumerate(names)}
    assert len(vocab) == len(names) == text_config["vocab_size"]
    return vocab, "\n".join(["#version: 0.2"] + [f"{a} {b}" for a, b in merges]) + "\n"


def tokenizer(text_config):
    return Tokenizer(*build(text_config), text_config["max_position_embeddings"])


def write(folder, text_config):
    vocab, merges = build(text_config)
    with open(f"{folder}/vocab.json", "w", encoding="utf-8") as f:
        f.write(json.dumps(vocab, ensure_ascii=False) + "\n")
    with open(f"{folder}/merges.txt", "w", encoding="utf-8") as f:
        f.write(merges)


if __name__ == "__main__":
    t = tokenizer(common.read_config(f"{common.HERE}/paint-s.json")["text"])
    for text in ("a van gogh painting of a horse", "Neon, xylophone! élan", ""):
        print(text, t.encode(text))
