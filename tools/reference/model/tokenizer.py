# SPDX-License-Identifier: Apache-2.0
"""CLIP's byte-level BPE over vocab.json and merges.txt.

Clean-up is the one without ftfy: control characters dropped, whitespace to space, spaces around CJK,
NFC, lower case. Splitting is written by hand over Unicode categories, so `regex` is not needed.
Words of added_tokens.json are taken out first, as whole words; one of several vectors becomes all of them,
as in diffusers' `maybe_convert_prompt`.
Origin: openai/CLIP (MIT), transformers CLIPTokenizer.
"""
import re
import unicodedata

START, END = "<|startoftext|>", "<|endoftext|>"
SPECIAL = re.compile(r"(<\|(?:startoftext|endoftext)\|>)")     # cut out first, even behind punctuation
CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
CJK = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
       (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))


def byte_symbols():
    """byte -> printable character, and (as dict order) the order of the vocabulary's first 256 entries."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = {b: chr(b) for b in kept}
    symbols.update({b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in symbols)})
    return symbols


def is_space(c):
    return c in "\t\n\r" or unicodedata.category(c) == "Zs"


def clean(text):
    out = []
    for c in text:
        if is_space(c):
            out.append(" ")
        elif c in "\0\ufffd" or unicodedata.category(c).startswith("C"):
            continue
        elif any(a <= ord(c) <= b for a, b in CJK):
            out.append(f" {c} ")
        else:
            out.append(c)
    return unicodedata.normalize("NFC", "".join(out)).lower()


def whole(text, i):
    """Whether a word begins or ends at i."""
    return not all(c == "_" or unicodedata.category(c)[0] in "LN" for c in text[i - 1:i + 1]) or not 0 < i < len(text)


def split(text, added={}):
    """Text -> pieces; what no rule takes (spaces) is dropped. added: word -> ids, the longest first; these come instead
    of the word."""
    def kind(c):
        return "s" if is_space(c) or c.isspace() else unicodedata.category(c)[0] if \
            unicodedata.category(c)[0] in "LN" else "p"

    def word_at(i):
        return next((w for w in added if text.startswith(w, i) and whole(text, i) and whole(text, i + len(w))), None)

    pieces, i = [], 0
    while i < len(text):
        word = word_at(i)
        if word:
            pieces.append(added[word])
            i += len(word)
            continue
        taken = next((w for w in (START, END) + CONTRACTIONS if text.startswith(w, i)), None)
        if taken is None:
            first, end = kind(text[i]), i + 1
            while first in "Lp" and end < len(text) and kind(text[end]) == first and not word_at(end):
                end += 1
            taken = text[i:end]
            if first == "s":
                i = end
                continue
        pieces.append(taken)
        i += len(taken)
    return pieces


class Tokenizer:
    def __init__(self, vocab, merges, length, added={}):
        """vocab: symbol -> id; merges: text of merges.txt (one header line); length: tokens per prompt; added:
        added_tokens.json."""
        self.vocab, self.length = vocab, length
        names = {word: [word] for word in added}
        for word, vectors in names.items():
            while f"{word}_{len(vectors)}" in added:
                vectors.append(f"{word}_{len(vectors)}")
        words = set(added).difference(*(vectors[1:] for vectors in names.values()))
        self.added = {clean(word).strip(): [added[name] for name in names[word]]
                      for word in sorted(words, key=len, reverse=True)}
        lines = merges.split("\n")[1:]
        self.ranks = {tuple(line.split()): i for i, line in enumerate(line for line in lines if line.strip())}
        self.symbols = byte_symbols()

    def bpe(self, piece):
        word = [self.symbols[b] for b in piece.encode("utf-8")]
        word[-1] += "</w>"
        while len(word) > 1:
            best = min(zip(word, word[1:]), key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            merged, i = [], 0
            while i < len(word):
                if tuple(word[i:i + 2]) == best:
                    merged.append(word[i] + word[i + 1])
                    i += 2
                else:
                    merged.append(word[i])
                    i += 1
            word = merged
        return word

    def tokens(self, text):
        ids = []
        for part in SPECIAL.split(text):
            for piece in split(clean(part), self.added):
                if isinstance(piece, list):
                    ids += piece
                    continue
                symbols = [piece] if piece in (START, END) else self.bpe(piece)
                ids += [self.vocab[s] for s in symbols]
        return ids

    def encode(self, text):
        """-> `length` ids: start, tokens (cut to fit), end, padding with end."""
        ids = [self.vocab[START], *self.tokens(text)[:self.length - 2], self.vocab[END]]
        return ids + [self.vocab[END]] * (self.length - len(ids))
