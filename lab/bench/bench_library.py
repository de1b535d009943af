"""The picture library: questions beside faiss, and how fast it is built."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from aai_models.align.cavt_mae import CAVTMAE, CAVTMAEConfig
from aai_models.align.library import Library, build

from .timing import COLUMNS, paired, row

PICTURES = 96


def _query_rows() -> list[list[str]]:
    import faiss

    rows = []
    for count in (100_000, 1_000_000):
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(count, 768, generator=generator, dtype=torch.float16)
        features /= features.float().norm(dim=-1, keepdim=True)
        library = Library(Path("."), "e", [str(i) for i in range(count)], torch.zeros(count, 2), features)
        query = features[77].float()
        flat = faiss.IndexFlatIP(768)
        for part in features.split(50_000):
            flat.add(part.float().numpy())
        question = query[None].numpy()
        assert int(flat.search(question, 4)[1][0, 0]) == 77 == int(library.query(query, 4)[0].path.name)
        timed = paired(lambda lib=library, q=query: lib.query(q, 4), lambda f=flat, q=question: f.search(q, 4))
        rows.append(row(f"query of {count:,} pictures", timed, "1x" + (", under 50 ms" if count == 100_000 else "")))
        del flat, library, features
    return rows


def _build_rows() -> list[list[str]]:
    model = CAVTMAE(CAVTMAEConfig()).eval()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for index in range(PICTURES):
            noise = rng.integers(0, 255, (60, 90, 3), dtype=np.uint8)
            Image.fromarray(noise).resize((1920, 1280), Image.Resampling.BICUBIC).save(Path(folder, f"{index}.jpg"))
        started = time.perf_counter()
        report = build(Library.open(folder, "e"), model.encode_image)
        seconds = time.perf_counter() - started
    return [
        [f"build: {name}", f"{1000 * spent / PICTURES:.2f}", "-", f"{PICTURES / spent:.1f} pictures/s", "-"]
        for name, spent in (
            ("all", seconds),
            ("decoding (summed over threads)", report.decoding_seconds),
            ("encoding", report.encoding_seconds),
        )
    ]


def measure(version: str) -> dict:
    return {
        "title": "library: features of 768, fp16; peer: faiss flat, fp32. Build: JPEGs of 1920 x 1280, both towers' size",
        "columns": COLUMNS,
        "rows": [*_query_rows(), *_build_rows()],
        "goal": "a question is no slower than faiss flat, and under 50 ms for 100,000 pictures",
    }
