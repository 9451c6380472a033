# SPDX-License-Identifier: Apache-2.0
"""The prompts that the model learns: a medium, a subject, and words around them.

The medium selects the look; everything else is filler that teaches the text encoder to look past
it. A prompt that names no medium means "leave the picture as it is".
"""

MEDIA = {
    "van gogh": ["a van gogh painting", "van gogh", "in the style of van gogh", "van gogh style",
                 "an oil painting by vincent van gogh", "thick swirling brush strokes",
                 "a starry night painting", "an impressionist oil painting",
                 "a post-impressionist painting", "swirling oil paint", "an oil painting"],
    "ink": ["an ink drawing", "ink", "ink wash", "a sumi-e ink painting", "pen and ink",
            "a black ink sketch", "an ink drawing on old paper", "chinese ink painting",
            "black and white ink lines", "a woodcut", "an ink illustration", "a pencil sketch"],
    "neon": ["neon", "neon lights", "a neon sign", "glowing neon lines", "cyberpunk",
             "neon style", "a synthwave picture", "glowing lines at night", "cyberpunk neon city",
             "electric neon glow", "neon outlines in the dark"],
    "cartoon": ["a cartoon", "cartoon", "comic book style", "a comic", "a cel shaded cartoon",
                "an animated film", "anime", "cartoon style", "bold outlines and flat colors",
                "a comic strip drawing", "pop art", "anime style"],
    "watercolor": ["a watercolor", "watercolor", "a watercolor painting", "watercolour",
                   "soft watercolor on paper", "an aquarelle", "watercolor style",
                   "a pale watercolor wash", "a watercolour sketch", "aquarelle",
                   "a light watercolor illustration"],
}
PLAIN = ["", "", "a photo", "photo", "a photograph", "a plain photo", "no style", "realistic",
         "a realistic photo", "unchanged"]
SUBJECTS = (
    "a street|a bird|a horse|a castle|a city|a face|a person|a woman|a man|a garden|flowers|"
    "a flower|a mountain|mountains|a forest|trees|the sea|a beach|a river|a lake|a boat|"
    "a cat|a dog|a house|an old town|a church|a bridge|a car|a bus|a field|the sky|clouds|"
    "a sunset|an animal|a tiger|a cow|fruit|a cup of coffee|a room|people|a crowd|a dancer|"
    "a tower|a temple|a landscape|a portrait|a bee|a butterfly|a train|a market|the moon|"
    "a village|snow|a desert|an island|a parrot|fish|a child").split("|")
FILLER = (
    "masterpiece|best quality|highly detailed|beautiful|intricate|high resolution|artwork|"
    "trending|4k|sharp|colorful|bright|dramatic light|art|detailed|by a great artist").split("|")


def pick(rng, items):
    return items[int(rng.integers(len(items)))]


def prompt(rng, style):
    """A random prompt for a style's name, or for None: the plain picture."""
    subject = pick(rng, SUBJECTS)
    words = [pick(rng, FILLER) for _ in range(int(rng.integers(3)))]
    if style is None:
        if rng.random() < .5:
            return pick(rng, PLAIN)
        medium = pick(rng, [m for m in PLAIN if m])
        core = pick(rng, [f"{medium} of {subject}", subject])
    else:
        medium = pick(rng, MEDIA[style])
        core = pick(rng, [f"{medium} of {subject}", f"{medium} of {subject}", medium, medium,
                          f"{subject}, {medium}", f"{subject} in {medium} style"])
    at = int(rng.integers(len(words) + 1))
    return ", ".join(words[:at] + [core] + words[at:])
