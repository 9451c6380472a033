# SPDX-License-Identifier: Apache-2.0
"""The prompts that the model learns: a medium, a palette, a subject, and words around them.

The medium selects the look and the palette its colours; everything else is filler that teaches the
text encoder to look past it. A prompt that names neither means "leave the picture as it is".
UNSEEN holds phrases for evaluation only: prompt() never produces them.
"""

MEDIA = {
    "van gogh": ("van gogh|vincent van gogh|van gogh painting|van gogh style|starry night|"
                 "starry night painting|swirling brush strokes|swirling oil paint|"
                 "post-impressionist painting|impressionist painting|impressionism|"
                 "expressionist brush strokes|sunflowers by van gogh").split("|"),
    "oil painting": ("oil painting|oil on canvas|old master painting|rembrandt|"
                     "rembrandt painting|baroque painting|renaissance oil painting|"
                     "classical oil painting|thick oil paint|oil portrait|dutch master|"
                     "caravaggio|museum painting").split("|"),
    "watercolor": ("watercolor|watercolour|watercolor painting|aquarelle|soft watercolor|"
                   "watercolor on paper|wet watercolor wash|watercolour sketch|water colors|"
                   "watercolor illustration|loose watercolor").split("|"),
    "ink": ("ink drawing|ink|ink wash|sumi-e|sumi-e ink painting|pen and ink|black ink|"
            "ink on old paper|chinese ink painting|brush and ink|ink illustration|ink sketch|"
            "india ink|calligraphy brush").split("|"),
    "pencil": ("pencil drawing|pencil|pencil sketch|graphite drawing|graphite|charcoal drawing|"
               "black and white sketch|sketch|hand drawn sketch|drawing with a pencil|"
               "graphite sketch on white paper|shaded pencil").split("|"),
    "cartoon": ("cartoon|comic|comic book|cel shaded|anime|animated film|cartoon style|"
                "comic strip|pop art|bold outlines and flat colors|manga in color|toon|"
                "saturday morning cartoon|cel animation").split("|"),
    "woodblock": ("woodblock print|ukiyo-e|japanese woodblock|hokusai|hokusai print|"
                  "japanese print|ukiyo-e print|linocut|woodcut print|hiroshige|"
                  "the great wave|block print|woodcut").split("|"),
    "neon": ("neon|neon lights|neon sign|glowing neon|cyberpunk|synthwave|glowing lines|"
             "neon outlines|electric glow|neon glow in the dark|retrowave|tron|"
             "cyberpunk neon city|blacklight").split("|"),
    "pastel": ("pastel drawing|soft pastel|pastel|chalk|chalk drawing|pastel chalk|degas|"
               "degas pastel|pastels on paper|chalk pastel|oil pastel|powdery pastel").split("|"),
}
PALETTE_WORDS = {
    "warm": ("warm colors|warm|golden light|orange tones|golden hour|sunset colors|"
             "warm light|autumn colors").split("|"),
    "cold": ("cold colors|cold|blue tones|icy|winter colors|cool colors|teal tones|"
             "frosty light").split("|"),
    "night": ("night|at night|moonlight|dark blue night|midnight|moonlit|nighttime|"
              "in the dark of night").split("|"),
    "sepia": ("sepia|sepia tones|old photograph colors|brown tones|vintage sepia|antique|"
              "brown and cream|faded brown").split("|"),
    "vivid": ("vivid colors|vivid|vibrant|intense colors|saturated colors|bright vivid colors|"
              "strong colors|psychedelic colors").split("|"),
    "pale": ("pale colors|pale|faded|washed out|muted colors|desaturated|pale light|"
             "foggy").split("|"),
    "green": ("green|green tones|emerald|forest colors|emerald green|jungle colors|mossy|"
              "shades of green").split("|"),
    "rose": ("rose|pink|pink tones|rose colors|magenta|cherry blossom colors|rosy|"
             "shades of pink").split("|"),
}
PLAIN = "a photo|photo|a photograph|a plain photo|no style|realistic|a realistic photo|unchanged"
PLAIN = PLAIN.split("|")
CANONICAL = {"van gogh": "a van gogh painting", "oil painting": "an oil painting",
             "watercolor": "a watercolor painting", "ink": "an ink drawing",
             "pencil": "a pencil sketch", "cartoon": "a cartoon", "woodblock": "a woodblock print",
             "neon": "neon lights", "pastel": "a soft pastel drawing"}
FRAMES = ("{}|{}|{}|a {}|the {}|a {} of {s}|a {} of {s}|{} of {s}|{s}, {}|{s} as a {}|"
          "{s} in the style of {}|in the style of {}|{} style|{s} in {} style|{s}, {} style|"
          "make it a {}|make it look like {}|turn {s} into {}|like {}|{} look|by {}|"
          "a beautiful {}|{s} drawn as {}|{s} painted as {}|looks like a {}|{} art").split("|")
SUBJECTS = (
    "a street|a bird|a horse|a castle|a city|a face|a person|a woman|a man|a garden|flowers|"
    "a flower|a mountain|mountains|a forest|trees|the sea|a beach|a river|a lake|a boat|"
    "a cat|a dog|a house|an old town|a church|a bridge|a car|a bus|a field|the sky|clouds|"
    "an animal|a tiger|a cow|fruit|a cup of coffee|a room|people|a crowd|a dancer|"
    "a tower|a temple|a landscape|a portrait|a bee|a butterfly|a train|a market|"
    "a village|snow|a desert|an island|a parrot|fish|a child|this|everything|my face|"
    "the picture|the video|a moose|a rabbit|a deer").split("|")
FILLER = (
    "masterpiece|best quality|highly detailed|beautiful|intricate|high resolution|artwork|"
    "trending|4k|8k|sharp|dramatic|art|detailed|by a great artist|please|fine art|award winning|"
    "elegant|very|nice|cinematic|old|modern|big|small|hd").split("|")
# More ways to say it, made of letters and of other words' pieces: without tokens of their own.
MORE_MEDIA = {
    "van gogh": ["vincent", "swirling strokes", "van gogh canvas", "strokes by van gogh"],
    "oil painting": ["oils", "oil", "oil paints", "rembrandt oil"],
    "watercolor": ["watercolors", "watercolours", "aquarelles", "watercolor art"],
    "ink": ["inks", "sumi-e brush", "japanese ink", "inked drawing"],
    "pencil": ["pencils", "pencil lines", "graphite lines", "penciled sketch"],
    "cartoon": ["cartoons", "comics", "cartoon movie", "anime movie"],
    "woodblock": ["woodblock", "woodblocks", "woodcuts", "hokusai woodblock"],
    "neon": ["neons", "neon tube", "cyberpunk city", "cyberpunk film"],
    "pastel": ["pastels", "chalks", "soft chalk", "pastel sketch"],
}
MORE_FRAMES = ("coloured with {}|done with {}|drawn using {}|made from a {}|{} scene|{} picture|"
               "{} landscape of {s}|{s} rendered in {}|as seen by {}|{s}, all {}|an old {}|"
               "{s} sketched as {}|{} by a master|printed like a {}|a frame from a {}").split("|")
UNSEEN = {
    "van gogh": ["give it van gogh's brush", "thick swirling strokes of paint",
                 "the way van gogh saw the fields", "an impressionist canvas, visible brushwork",
                 "starry night over my street"],
    "oil painting": ["an old oil portrait in a gold frame", "rembrandt lighting, oil on wood",
                     "a dutch master hung in a museum", "thick oils on linen",
                     "classical baroque canvas"],
    "watercolor": ["splashes of watercolor on wet paper", "a delicate aquarelle sketch",
                   "watercolour illustration from a children's book",
                   "washed in thin watercolor", "the garden, in loose watercolours"],
    "ink": ["brushed in black ink", "a sumi-e scroll", "pen and ink on rice paper",
            "an inky chinese landscape", "old calligraphy ink"],
    "pencil": ["a pencil study", "shaded with graphite", "a rough charcoal sketch of my dog",
               "drawn by hand with a soft pencil", "black and white pencil portrait"],
    "cartoon": ["a frame from an anime", "comic book hero", "like a saturday cartoon",
                "cel shaded game graphics", "a pop art poster"],
    "woodblock": ["a japanese woodblock from long ago", "in hokusai's manner",
                  "hiroshige's view of the village", "a linocut poster",
                  "ukiyo-e scroll of a wave"],
    "neon": ["a neon sign at the bar", "synthwave poster", "tron-like glowing edges",
             "lit by neon tubes", "cyberpunk alley with neon"],
    "pastel": ["chalk on a blackboard", "a degas ballerina in pastel", "soft pastels on grey paper",
               "drawn with colored chalk", "oil pastel sketch of fruit"],
}


def phrases():
    """Every phrase that a prompt may be made of."""
    lists = [*MEDIA.values(), *PALETTE_WORDS.values(), PLAIN, SUBJECTS, FILLER,
             [f.format("", s="") for f in FRAMES], ["with in"]]
    return [phrase for phrases_ in lists for phrase in phrases_]


def pick(rng, items):
    return items[int(rng.integers(len(items)))]


def nonsense(rng):
    """A word that means nothing, so that unknown words do no harm."""
    letters = [pick(rng, "bcdfghjklmnprstvwz") + pick(rng, "aeiou")
               for _ in range(int(rng.integers(1, 4)))]
    return "".join(letters) + pick(rng, ["", "n", "x", "s", "er", "ing"])


def prompt(rng, style, palette=None):
    """A random prompt for a style's name (None: the plain picture) and a palette's name or None."""
    subject = pick(rng, SUBJECTS)
    words = [nonsense(rng) if rng.random() < .25 else pick(rng, FILLER)
             for _ in range(int(rng.integers(3)))]
    if style is None:
        if palette is None and rng.random() < .4:
            return ""
        medium = pick(rng, PLAIN)
        core = pick(rng, [medium, f"{medium} of {subject}", subject])
        if palette is not None and rng.random() < .3:
            core = ""
    else:
        frames = FRAMES if rng.random() < .7 else MORE_FRAMES
        media = MEDIA if rng.random() < .75 else MORE_MEDIA
        core = pick(rng, frames).format(pick(rng, media[style]), s=subject)
        if rng.random() < .15:      # an unknown word in the middle
            core = core.split(" ")
            core.insert(int(rng.integers(len(core) + 1)), nonsense(rng))
            core = " ".join(core)
    words.insert(int(rng.integers(len(words) + 1)), core)
    if palette is not None:
        shade = pick(rng, PALETTE_WORDS[palette])
        form = pick(rng, ["{}", "{}", "{}", "in {}", "with {}"]).format(shade)
        words.insert(int(rng.integers(len(words) + 1)), form)
    joint = ", " if rng.random() < .7 else " "
    return joint.join(w for w in words if w)


def cores():
    """Everything that prompt() may put between its filler and palette words, nonsense apart."""
    said = set(SUBJECTS) | set(PLAIN) | {f"{p} of {s}" for p in PLAIN for s in SUBJECTS}
    media = {m for table in (MEDIA, MORE_MEDIA) for phrases_ in table.values() for m in phrases_}
    for frame in FRAMES + MORE_FRAMES:
        subjects = SUBJECTS if "{s}" in frame else [""]
        said.update(frame.format(m, s=s) for m in media for s in subjects)
    return said


def sayable(unseen):
    """Those of the phrases that prompt() can say, with at most one filler word on either side."""
    said = cores()
    before = [f + joint for f in FILLER for joint in (" ", ", ")]
    after = [joint + f for f in FILLER for joint in (" ", ", ")]

    def can_say(phrase):
        starts = [phrase] + [phrase[len(b):] for b in before if phrase.startswith(b)]
        return any(rest in said or any(rest.endswith(a) and rest[:-len(a)] in said for a in after)
                   for rest in starts)

    return [phrase for phrase in unseen if can_say(phrase)]
