"""Figures that others printed: the paper's tables, and public figures beside which they must be read."""

from __future__ import annotations

from dataclasses import dataclass

PAPER = "Align, Adapt and Inject"
SYNC = "CAV-MAE Sync, project page"
# Whether a printed figure may be laid beside ours.
MARKS = {
    "=": "published, same test data",
    "~": "published, same set and rules, but a choice of clips that is not ours",
    "x": "published, other test data: not comparable, for orientation",
}
# Fewest and most clips of a split that still is the published test data: some of VGGSound's videos are gone.
WHOLE = {"ESC-50": (1960, 2000), "UrbanSound8K": (8550, 8732), "VGGSound": (12_000, 15_446)}
SUBSET = {"5 per class": (1200, 1545), "10 per class": (2400, 3090), "all": WHOLE["VGGSound"], "list": (1200, 1545)}


@dataclass(frozen=True)
class Row:
    """One published line. Shares in percent."""

    model: str
    figures: tuple[float, ...]  # Table 1: A->V at R@1, 5, 10, as far as they are printed; Table 2: the accuracy
    source: str
    note: str = ""
    back: tuple[float, ...] = ()  # Table 1: V->A
    clips: str = ""  # listed: CAV-MAE's list of 1,545; other: no test data that we could have


def _sync(model: str, figures: tuple[float, ...], back: tuple[float, ...], trained: str = "trained on AudioSet") -> Row:
    return Row(model, figures, SYNC, trained, back, "listed")


# VGGSound, 5 clips of each class, as CAV-MAE's list names them.
LISTED = (
    _sync("CAV-MAE", (8.3, 23.8, 32.4), (14.7, 35.3, 45.9)),
    _sync("CAV-MAE Scale+", (12.8, 30.4, 40.3), (14.8, 34.2, 44.0)),
    _sync("LanguageBind", (6.5, 22.7, 33.5), (10.3, 30.1, 39.7), "other training data"),
    _sync("AVSiam", (20.4,), (19.0,)),
    _sync("ImageBind", (20.7, 43.2, 53.4), (21.6, 43.4, 52.9), "other training data"),
    _sync("CAV-MAE Sync", (23.2, 46.2, 58.1), (27.9, 51.7, 61.8)),
    _sync("VAB-Encodec", (34.9, 62.7, 73.1), (33.5, 63.3, 74.3), "fine-tuned"),
    Row("PE-AV large", (), "PE-AV, README", "a split of its own, presumably R@1", (48.3,), "other"),
)

# Table 1: R@1, R@5, R@10 on VGGSound. The paper does not say the direction; A->V is assumed.
TABLE_1: dict[str, tuple[Row, ...]] = {
    "5 per class": (
        Row("CAV-MAE, not fine-tuned", (0.28, 0.77, 1.62), PAPER, "at the level of an untrained tower"),
        Row("AudioCLIP", (13.84, 33.26, 44.42), PAPER),
        Row("AudioCLIP, fine-tuned", (21.53, 47.24, 57.98), PAPER),
        Row("CAVT-MAE without pseudo-targets", (27.04, 53.31, 64.75), PAPER),
        Row("CAVT-MAE", (28.31, 54.51, 64.26), PAPER),
        *LISTED,
    ),
    "10 per class": (
        Row("CAV-MAE, not fine-tuned", (0.17, 0.60, 1.41), PAPER, "at the level of an untrained tower"),
        Row("AudioCLIP", (8.36, 23.79, 34.28), PAPER),
        Row("AudioCLIP, fine-tuned", (14.68, 36.82, 48.34), PAPER),
        Row("CAVT-MAE without pseudo-targets", (20.76, 44.87, 55.47), PAPER),
        Row("CAVT-MAE", (21.53, 45.05, 55.89), PAPER),
    ),
    "all": (
        Row("CAV-MAE, not fine-tuned", (0.02, 0.15, 0.24), PAPER, "at the level of an untrained tower"),
        Row("AudioCLIP", (2.69, 9.02, 14.15), PAPER),
        Row("AudioCLIP, fine-tuned", (5.67, 17.17, 25.34), PAPER),
        Row("CAVT-MAE without pseudo-targets", (7.96, 22.26, 31.64), PAPER),
        Row("CAVT-MAE", (8.86, 23.46, 32.83), PAPER),
    ),
    "list": LISTED,
}

# Table 2 (and the accuracies of Table 3, on VGGSound): zero-shot accuracy over all clips.
TABLE_2: dict[str, tuple[Row, ...]] = {
    "ESC-50": (
        Row("AudioCLIP", (4.1,), PAPER, "its authors print 69.40 for their model"),
        Row("AudioCLIP, fine-tuned on VGGSound", (6.2,), PAPER),
        Row("Wav2CLIP", (41.4,), PAPER),
        Row("SGSIM", (57.8,), PAPER),
        Row("CAVT-MAE", (42.8,), PAPER),
        Row("AudioCLIP, partial training", (69.40,), "AudioCLIP, README"),
        Row("ImageBind", (66.9,), "ImageBind, repository"),
        Row("MS-CLAP", (82.6,), "MS-CLAP"),
        Row("LAION-CLAP", (89.98,), "LAION-CLAP, README", "to 91.55"),
        Row("people", (81.3,), "ESC-50"),
    ),
    "UrbanSound8K": (
        Row("AudioCLIP", (18.1,), PAPER, "its authors print 68.78 for their model"),
        Row("AudioCLIP, fine-tuned on VGGSound", (19.58,), PAPER),
        Row("Wav2CLIP", (40.4,), PAPER),
        Row("SGSIM", (45.7,), PAPER),
        Row("CAVT-MAE", (39.8,), PAPER),
        Row("AudioCLIP, partial training", (68.78,), "AudioCLIP, README"),
        Row("LAION-CLAP", (75.0,), "LAION-CLAP, README", "to 77"),
    ),
    "VGGSound": (
        Row("AudioCLIP", (38.94,), PAPER),
        Row("AudioCLIP, fine-tuned", (48.41,), PAPER),
        Row("CAVT-MAE without pseudo-targets", (49.32,), PAPER),
        Row("CAVT-MAE", (52.16,), PAPER, "trained on VGGSound"),
        Row("CAV-MAE, audio alone, supervised", (59.8,), "CAV-MAE, README", "a classifier, not zero-shot", (), "other"),
        Row("LAION-CLAP", (46.2,), "LAION-CLAP, issue 86", "others reproduce 28 to 45"),
    ),
}

URBAN = {"air conditioner", "car horn", "children playing", "dog bark", "drilling"}


def recognise(labels: list[str]) -> str:
    """Which public set these labels are of: VGGSound, ESC-50, UrbanSound8K, or another."""
    known = {label.lower() for label in labels}
    if len(known) == 309:
        return "VGGSound"
    if len(known) == 50 and {"keyboard typing", "sea waves", "clock tick"} <= known:
        return "ESC-50"
    return "UrbanSound8K" if len(known) == 10 and known >= URBAN else "another set"


def _within(count: int, limits: tuple[int, int]) -> bool:
    return limits[0] <= count <= limits[1]


def retrieval_mark(row: Row, known_as: str, subset: str, clips: int) -> str:
    """One of `MARKS` for a line of Table 1 beside our figures over so many clips of a subset."""
    if known_as != "VGGSound" or row.clips == "other" or not _within(clips, SUBSET[subset]):
        return "x"
    return "=" if subset == "list" else "~"


def classification_mark(row: Row, name: str, known_as: str, clips: int, trained_here: bool) -> str:
    """One of `MARKS` for a line of Table 2 on the set `name`; `trained_here`: our encoder was trained on clips of our set."""
    if name != known_as or row.clips == "other" or not _within(clips, WHOLE[name]):
        return "x"
    if name == "VGGSound":
        return "~"
    return "x" if trained_here else "="
