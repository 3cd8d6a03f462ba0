"""The model card of the base bundle, from the data and the figures."""

import data

SOURCES = {
    "neu_det": ("NEU surface defect database (Song & Yan 2013)", "none stated; research database"),
    "deeppcb": ("DeepPCB (Tang et al. 2019)", "MIT"),
    "cplid": ("CPLID, Chinese power line insulators (Tao et al. 2018); defects composited", "none stated"),
    "magnetic_tile": ("Magnetic tile surface defects (Huang et al. 2018)", "none stated"),
    "container": ("container damage pictures; coarse boxes", "MIT"),
    "pennfudan": ("Penn-Fudan pedestrians (Wang et al. 2007)", "none stated"),
}


def percent(value):
    return f"{100 * value:.1f}"


def text(root, names, described, rows, version):
    full = described["sizes"][0]
    best = max(full["validation"], key=lambda v: v["map50"])
    plain = [r for r in rows if r["precision"] == "float32"]
    row = next(r for r in plain if r["size"] == full["name"] and r["input"] == best["input"])
    foreign = sum(s["foreign_per_image"] for s in row["sets"].values()) / len(row["sets"])
    lines = [
        f"# inspectd-base {version}",
        "",
        f"**What it is.** One detector for {len(names)} classes of six domains, in {len(described['sizes'])} sizes that share "
        "one set of weights, and the feature maps that the anomaly check reads. EfficientNet-Lite0 with a feature pyramid and "
        "an anchor-free head; `inspectd extract` cuts a gateway's own bundle out of it.",
        "",
        "**Weights.** Stem to stage 4: ImageNet (ILSVRC 2012) weights of the EfficientNet-Lite release of the TensorFlow TPU "
        "models, Apache-2.0, unchanged. Stage 5, pyramid and head: trained on the sets below, and on nothing else.",
        "",
        "| set | pictures trained on | kept for validation | source | licence |",
        "|---|---|---|---|---|",
    ]
    for name in data.SETS:
        trained, kept = (len(data.annotations(root, name, held)) for held in (False, True))
        source, licence = SOURCES[name]
        lines.append(f"| {name} | {trained} | {kept} | {source} | {licence} |")
    lines += [
        "",
        f"**Figures.** On the pictures kept for validation (chosen by a hash of their names, never trained on), full size at "
        f"{best['input']} px: mAP50 {percent(best['map50'])}, mAP50:95 {percent(best['map50_95'])}, both as means over the six "
        f"domains; {foreign:.3f} detections a picture with a score of 0.5 or more name a class of another domain.",
        "",
        "| set | " + " | ".join(f"{s['name']}" for s in described["sizes"]) + " |",
        "|---|" + "---|" * len(described["sizes"]),
    ]
    settings = [(s["name"], max(s["validation"], key=lambda v: v["map50"])["input"]) for s in described["sizes"]]
    of = {(r["size"], r["input"]): r["sets"] for r in plain}
    for name in data.SETS:
        cells = [f"{percent(of[s][name]['map50'])} ({percent(of[s][name]['map50_95'])})" for s in settings]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "| input | " + " | ".join(f"{side} px" for _, side in settings) + " |",
        "| points that 8 bits cost | " + " | ".join(percent(s.get("int8_cost", 0)) for s in described["sizes"]) + " |",
        "",
        "mAP50 (mAP50:95), each size at the input at which it is best.",
        "",
        "| class | AP50 | threshold |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {percent(ap)} | {t} |" for name, ap, t in zip(names, best["classes"], full["thresholds"])]
    lines += [
        "",
        "A class's threshold is where F0.5 is largest on the validation pictures, between 0.2 and 0.55; in your plant another one "
        "may be right: change `threshold` in the `bundle.json` of a bundle that `extract --out` has written.",
        "",
        "**Known weaknesses.** Container damage has coarse, inconsistent boxes and is found rarely. Crazing has no clear edge: "
        "boxes are loose. Of insulator defects only composited ones were seen. Every domain comes from one source with one "
        "kind of camera and light; another plant's pictures differ, and what the detector then misses the anomaly check has to "
        "find. It was never shown a picture in which classes of two domains meet.",
        "",
        "**Made by** the code in models/train/, in the rounds that its README tells; `make model` runs it.",
    ]
    return "\n".join(lines) + "\n"
