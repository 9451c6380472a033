# SPDX-License-Identifier: Apache-2.0
"""Weighted and blended prompts: the rules of pipeline/prompt.h, written a second time.

    a (red:1.3) house        a cat :0.7 | a dog :0.3        \\( \\) \\[ \\] \\| \\: \\\\ are characters

Weights multiply the text tower's result, which is then scaled to keep its mean, as AUTOMATIC1111's
stable-diffusion-webui does ("original" emphasis).
"""
import re

SYNTAXES = ("numbers", "brackets", "plain")
MAX_WEIGHT, MAX_PARTS, MAX_MEAN_RATIO = 4.0, 8, 4.0
ESCAPE = re.compile(r"\\[()\[\]|:\\]")
NUMBER = re.compile(r"(?<!\\)(\\\\)*: *([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)) *$")
MAX_NUMBER = 40             # characters
CLOSE = {"(": ")", "[": "]"}


class PromptError(ValueError):
    """`column` counts characters from 1."""

    def __init__(self, column, what):
        super().__init__(f"column {column}: {what}")
        self.column = column


def find_close(text, at):
    """Index of the bracket that closes the one at `at`, or None."""
    depth, i = 0, at
    while i < len(text):
        if ESCAPE.match(text, i):
            i += 1
        elif text[i] == text[at]:
            depth += 1
        elif text[i] == CLOSE[text[at]]:
            depth -= 1
            if depth == 0:
                return i
        i += 1
    return None


def ends_in_number(text):
    """-> (text before ":number", number) or None."""
    found = NUMBER.search(text)
    if not found or len(found[2]) > MAX_NUMBER:
        return None
    return text[:found.end(1) if found[1] else found.start()], float(found[2])


def read(text, syntax, weight=1.0, fill=None, offset=0):
    """-> [(character, weight)]; `fill` is what "{}" stands for in a template."""
    out, at = [], 0
    while at < len(text):
        c = text[at]
        if fill is not None and text.startswith("{}", at):
            out += [(f, min(weight * w, MAX_WEIGHT)) for f, w in fill]
            at += 2
        elif syntax != "plain" and ESCAPE.match(text, at):
            out.append((text[at + 1], weight))
            at += 2
        elif syntax != "plain" and c in "([":
            close = find_close(text, at)
            inside = text[at + 1:close]
            numbered = ends_in_number(inside)
            if syntax == "numbers" and not (c == "(" and numbered):
                out.append((c, weight))
                at += 1
                continue
            colon = offset + at + 2 + len(numbered[0]) if numbered else 0
            if close is None:
                raise PromptError(offset + at + 1, f"{c!r} has no {CLOSE[c]!r}")
            if c == "[" and numbered:
                raise PromptError(colon, "a number weighs in ( ), not in [ ]")
            if numbered and not 0 <= numbered[1] <= MAX_WEIGHT:
                raise PromptError(colon, "a weight must be from 0 to 4")
            factor = numbered[1] if numbered else 1.1 if c == "(" else 1 / 1.1
            inner = min(weight * factor, MAX_WEIGHT)
            out += read(numbered[0] if numbered else inside, syntax, inner, fill, offset + at + 1)
            at = close + 1
        elif syntax == "brackets" and c in ")]":
            raise PromptError(offset + at + 1, f"{c!r} closes nothing")
        else:
            out.append((c, weight))
            at += 1
    return out


def bars(text):
    """-> [(begin, end)] of the parts between bars that are in no brackets."""
    begin, at, spans = 0, 0, []
    while at < len(text):
        close = find_close(text, at) if text[at] in "([" else None
        if ESCAPE.match(text, at):
            at += 1
        elif close is not None:
            at = close
        elif text[at] == "|":
            spans.append((begin, at))
            begin = at + 1
        at += 1
    return spans + [(begin, len(text))]


def split(text, syntax):
    """-> [(begin, end, share)], shares summing to 1."""
    whole = [(0, len(text), 1.0)]
    spans = bars(text) if syntax != "plain" else []
    numbers = [ends_in_number(text[a:b]) for a, b in spans]
    if len(spans) < 2 or not (any(numbers) or syntax == "brackets"):
        return whole
    if len(spans) > MAX_PARTS:
        raise PromptError(len(text) + 1, "a blend has at most 8 parts")
    parts = []
    for (a, b), number in zip(spans, numbers):
        inside = number[0] if number else text[a:b]
        begin = a + len(inside) - len(inside.lstrip(" "))
        end = max(begin, a + len(inside.rstrip(" ")))
        if begin == end and not number:
            raise PromptError(begin + 1, "a part of the blend is empty")
        if number and number[1] < 0:
            raise PromptError(end + 1, "a share must be 0 or more")
        parts.append((begin, end, number[1] if number else 1.0))
    total = sum(share for _, _, share in parts)
    if total <= 0:
        raise PromptError(parts[0][1] + 1, "the shares of the blend sum to 0")
    return [(begin, end, share / total) for begin, end, share in parts]


def parse(template, text, syntax="numbers"):
    """-> [(share, [(text, weight)])]: parts, and their runs of one weight."""
    parts = []
    for begin, end, share in split(text, syntax):
        own = read(text[begin:end], syntax, offset=begin)
        runs = []
        for c, weight in read(template, syntax, fill=own):
            if runs and runs[-1][1] == weight:
                runs[-1][0] += c
            else:
                runs.append([c, weight])
        parts.append((share, [tuple(run) for run in runs]))
    return parts


def encode(tokenizer, runs):
    """Runs of a part -> (ids, weights), both of the tokenizer's length."""
    ids, weights = [], []
    for text, weight in runs:
        tokens = tokenizer.tokens(text)
        ids += tokens
        weights += [weight] * len(tokens)
    start, *_, end = tokenizer.encode("")
    room = tokenizer.length - 2
    ids, weights = ids[:room], weights[:room]
    pad = tokenizer.length - 1 - len(ids)
    return [start, *ids, *[end] * pad], [1.0, *weights, *[1.0] * pad]


def weigh(embedding, weights):
    """[1, T, C] and T weights -> the weighted embedding, its mean kept."""
    if all(weight == 1 for weight in weights):
        return embedding
    weighted = embedding * embedding.new_tensor(weights)[None, :, None]
    ratio = (embedding.double().mean() / weighted.double().mean()).item()
    return weighted * ratio if 1 / MAX_MEAN_RATIO <= ratio <= MAX_MEAN_RATIO else weighted
