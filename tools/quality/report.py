# SPDX-License-Identifier: Apache-2.0
"""results.json -> the table, and docs/quality.md between two marks; what people wrote around them stays."""
import json
from dataclasses import dataclass

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
FRAME = f"""# Quality of the shipped model

Between the two marks everything is written by `tools/evaluate`; the rest is by hand.

{BEGIN}
{END}

## What looks wrong

Not written yet.
"""

WHO, WHO_TEXT = ("ours", "bare", "off", "teacher"), "ours / not steadied / and motion off / teacher"


@dataclass
class Row:
    measure: str
    must: str
    ours: float
    met: bool = None
    bare: float = None
    off: float = None
    alone: float = None
    teacher: float = None
    source: float = None
    unit: str = ""
    digits: int = 2

    def cells(self):
        met = {True: "yes", False: "**no**", None: ""}[self.met]
        values = (show(v, self.digits, self.unit) for v in (self.ours, self.bare, self.off, self.alone,
                                                                self.teacher, self.source))
        return [self.measure, self.must, *values, met]


def show(value, digits=2, unit=""):
    if value is None:
        return ""
    if unit == "%":
        return f"{100 * value:.0f} %"
    return f"{value:.1e}" if unit == "e" else f"{value:.{digits}f}{unit}"


def warp_rows(name, warp):
    """The same figures against the two things they must be below."""
    ours, teacher, off = warp["ours"], warp["teacher"], warp["off"]
    if ours is None:
        return []
    return [Row(f"warp error, {name}", f"<= 1.15 x teacher = {1.15 * teacher:.2f}", ours,
                ours <= 1.15 * teacher, warp["bare"], off, warp["alone"], teacher, warp["source"]),
            Row(f"warp error, {name}, below motion off", ">= 25 %", 1 - ours / off, ours <= .75 * off,
                1 - warp["bare"] / off, unit="%"),
            Row(f"warp error, {name}, below motion off and fresh noise", "", 1 - ours / warp["alone"], None,
                1 - warp["bare"] / warp["alone"], unit="%")]


def rows(results):
    """The issue's table, as far as it has been measured."""
    out = []
    if r := results.get("autoencoder"):
        out += [Row("autoencoder PSNR, photos, dB", ">= 26", r["photo"], r["photo"] >= 26),
                Row("autoencoder PSNR, styled, dB", ">= 22", r["styled"], r["styled"] >= 22)]
    if r := results.get("teacher"):
        p, m, d, s, c = (r[n] for n in ("psnr", "moved", "difference", "structure", "recognised"))
        near, far = p["ceiling"] - 3, p["source"] + 3
        out += [Row("PSNR to the teacher, dB", f">= ceiling - 3 = {near:.2f}, >= source + 3 = {far:.2f}",
                    p["ours"], p["ours"] >= max(near, far), p["bare"], p["off"], p["alone"], None, p["source"]),
                Row("PSNR to the teacher's moved still, dB", "", m["ours"], None, m["bare"], m["off"],
                    m["alone"], m["teacher"], m["source"]),
                Row("difference to the source", ">= 25", d["ours"], d["ours"] >= 25, d["bare"], d["off"], d["alone"],
                    d["teacher"], d["source"]),
                Row("style recognised", ">= 95 %", c["ours"], c["ours"] >= .95, c["bare"], c["off"], c["alone"],
                    unit="%")]
    if r := results.get("words"):
        empty = r["empty"]
        out += [Row("style recognised, unseen paraphrases", ">= 90 %", r["unseen"], r["unseen"] >= .9, unit="%"),
                Row("style recognised, beside unknown words", "no harm", r["unknown"], r["unknown"] >= .95,
                    unit="%"),
                Row("empty prompt: PSNR to the source, dB", f"ceiling {empty['ceiling']:.2f}", empty["ours"])]
    if r := results.get("palettes"):
        out.append(Row("palette recognised", "", r["recognised"], unit="%"))
    if r := results.get("teacher"):
        out += warp_rows("photos", r["warp"])
    if r := results.get("clips"):
        out += warp_rows("videos", r["warp"])
    if r := results.get("flicker"):
        f = r["flicker"]
        out.append(Row("flicker in static regions", "<= 2.5", f["ours"], f["ours"] <= 2.5, f["bare"], f["off"],
                       f["alone"], f["teacher"], f["source"]))
    if r := results.get("teacher"):
        out.append(Row("structure: correlation of gradients", f">= 0.8 x teacher = {.8 * s['teacher']:.2f}",
                       s["ours"], s["ours"] >= .8 * s["teacher"], s["bare"], s["off"], s["alone"],
                       s["teacher"], s["source"]))
    if r := results.get("drift"):
        out += [Row(f"drift of the mean colour, {r['frames']} frames", "<= 2", r["end"], r["end"] <= 2),
                Row("... at most on the way", "", r["most"])]
    if r := results.get("cache"):
        out += [Row("PSNR of an int8 KV cache to one in fp16, dB", ">= fp16 to fp32 - 3 = "
                    f"{r['psnr']['fp16'] - 3:.2f}", r["psnr"]["int8"], r["psnr"]["int8"] >= r["psnr"]["fp16"] - 3,
                    None, r["psnr"]["off"]),
                Row("warp error, videos, int8 KV cache (fp16: "
                    f"{r['warp']['fp16']:.3f})", "", r["warp"]["int8"], None, None, r["warp"]["off"], digits=3)]
    if r := results.get("parity"):
        for precision, must in (("fp16", 1e-2), ("fp32", 1e-4)):
            for what, values in r[precision].items():
                out.append(Row(f"rel. L2 to PyTorch, {r['frames']} frames, {precision}, {what}", f"<= {must:.0e}",
                               values["whole"], values["whole"] <= must, unit="e"))
    return out


def table(head, lines):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
                     + ["| " + " | ".join(line) + " |" for line in lines])


def main_table(results):
    head = ["measure", "must", "ours", "not steadied", "and motion off", "and fresh noise", "teacher", "source", "met"]
    return table(head, [row.cells() for row in rows(results)])


def style_table(results):
    """One line a style, from whatever parts are there."""
    coder, teacher, words, flicker = (results.get(n, {}).get("styles", {})
                                      for n in ("autoencoder", "teacher", "words", "flicker"))
    lines = []
    for style in teacher or coder or words or flicker:
        t, f = teacher.get(style), flicker.get(style, {}).get("flicker", {})

        def figure(name, who, **how):
            return show(t[name][who], **how) if t else ""

        lines.append([style, show(coder.get(style)), figure("psnr", "ours"), figure("psnr", "ceiling"),
                      figure("psnr", "source"), figure("difference", "ours", digits=1),
                      figure("recognised", "ours", unit="%"), show(words.get(style), unit="%"),
                      " / ".join(figure("warp", n) for n in WHO) if t else "",
                      " / ".join(show(f.get(n)) for n in WHO) if f else "",
                      " / ".join(figure("structure", n) for n in ("ours", "teacher")) if t else ""])
    head = ["style", "autoencoder, dB", "PSNR to teacher, dB", "its ceiling", "source", "difference", "recognised",
            "unseen words", f"warp error: {WHO_TEXT}", f"flicker: {WHO_TEXT}",
            "structure: ours / teacher"]
    return table(head, lines)


def clip_lines(results):
    lines = []
    for name, r in results["clips"]["clips"].items():
        lines.append([name, ", ".join(results["clips"]["chosen"][name]),
                      *(show(r["warp"][n]) for n in ("ours", "bare", "off", "teacher", "source")),
                      show(r["structure"]["ours"]), show(r["structure"]["teacher"])])
    return table(["video", "styles", "warp error: ours", "not steadied", "and motion off", "teacher", "source",
                  "structure: ours", "teacher"], lines)


HOW = """
* Everything is what `live2diff run` writes: 8-bit 4:2:0, read back as RGB. Teacher and source go through
  `--passthrough` first, the same path without the model. Photos are held out: no training stage saw them.
* *Not steadied* is `--steady 0`; *and motion off* is that with every motion module's `proj_out` set to zero: each
  frame on its own, with the same noise; *and fresh noise* gives every frame noise of its own as well, as a diffusion
  of single pictures would. *Teacher* is the filter on every frame on its own. Noise: seed 0.
* *Photos*: a synthetic camera over a still. PSNR is against the filter on the same frame, *ceiling* that picture
  through the autoencoder alone; *moved still* is the styled still warped along the same path, which differs where the
  camera zooms, since a filter's strokes keep their size in pixels. All is measured after the 8 frames of warm-up.
* *Recognised*: the teacher's picture with the smallest mean square error, of all styles, is the prompt's.
  Paraphrases, unknown words and palettes are tried on one-frame clips at 128x128; palettes among the style's
  picture in every palette and in none.
* *Warp error*: mean |frame - the frame before, moved by the source's flow| (OpenCV DIS, medium), where forward and
  backward flow agree. *Flicker*: standard deviation in time where nothing moves, under a fixed camera with sensor
  noise of sigma 2. *Structure*: correlation of the luminance gradient's magnitude with the source's.
* *Drift*: a clip of 50 frames repeated; mean colour of its first round after the warm-up against the last round's.
* *Rel. L2*: last latent and decoded picture of every frame, before 8 bits, against `tools/reference/stream.py`.
"""


def body(results, pictures):
    """Everything between the marks."""
    text = ["Levels of 255 unless a unit is named.", main_table(results)]
    hashes = {r["settings"]["model"] for r in results.values()}
    if len(hashes) > 1:
        text.append(f"**The parts were measured on different models: {', '.join(sorted(hashes))}.**")
    text += ["## How it was measured", HOW.strip()]
    text.append(table(["part", "model", "steps", "precision", "noise", "size", "minutes"], [
        [name, r["settings"]["model"], r["settings"]["steps"], r["settings"]["precision"],
         r["settings"]["noise"], f"{r['settings']['size']}x{r['settings']['size']}", f"{r['seconds'] / 60:.1f}"]
        for name, r in results.items()]))
    text += ["## Style by style", style_table(results)]
    if missed := results.get("words", {}).get("missed"):
        text.append("Prompts that gave another style on a photo: " + "; ".join(
            f'"{prompt}" ({style}) gave {got}' for prompt, style, got in missed) + ".")
    for style in results.get("teacher", {}).get("styles", {}):
        name = f"style-{style.replace(' ', '-')}.jpg"
        text += [f"### {style}", "Source, teacher, ours.", f"![{style}]({pictures.name}/{name})"]
    if "palettes" in results:
        r = results["palettes"]
        per = ", ".join(f"{name} {show(v, unit='%')}" for name, v in r["palettes"].items())
        text += ["## Palettes", f"No palette, then {', '.join(r['palettes'])}; two rows a style "
                 f"({', '.join(r['shown'])}): teacher, ours. Recognised: {per}.",
                 f"![Palettes]({pictures.name}/palettes.jpg)"]
    if "clips" in results:
        text += ["## Videos", clip_lines(results)]
        for name, chosen in results["clips"]["chosen"].items():
            stem = name.rsplit(".", 1)[0]
            text += [f"### {name}", f"Six moments: the source, {', '.join(chosen)}.",
                     f"![{name}]({pictures.name}/clip-{stem}.jpg)"]
    return "\n\n".join(text)


def load(path):
    return json.loads(path.read_text()) if path.exists() else {}


def save(path, results):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


def write(page, results, pictures):
    """Replaces what is between the marks of `page`, or begins it."""
    old = page.read_text() if page.exists() else FRAME
    head, begin, rest = old.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: the marks {BEGIN} and {END} are not there")
    page.write_text(f"{head}{BEGIN}\n\n{body(results, pictures)}\n\n{END}{tail}")
