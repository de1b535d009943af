"""Names of AudioSet's classes: BEATs' file knows them by their Freebase ids alone, such as /m/09x0r.

`audioset_labels.csv` is AudioSet's own list of its 527 classes (id, name), by Google, under CC BY 4.0:
https://research.google.com/audioset/download.html.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path

FILE = Path(__file__).with_name("audioset_labels.csv")


@lru_cache(maxsize=1)
def names() -> dict[str, str]:
    """Id -> name of a class: "/m/0bt9lr" -> "Dog"."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return {mid: name for mid, name in csv.reader(file)}


def class_names(label_dict: object, classes: int) -> tuple[str, ...]:
    """The name of each class of a classifier, by its file's `label_dict` (index -> id); an unknown id names itself.

    Empty where the table does not name each of the `classes` once.
    """
    if not isinstance(label_dict, dict):
        return ()
    found = {str(index): mid for index, mid in label_dict.items() if isinstance(mid, str)}
    mids = [found.get(str(index)) for index in range(classes)]
    if len(found) != classes or None in mids or len(set(mids)) != classes:
        return ()
    return tuple(names().get(mid, mid) for mid in mids if mid is not None)
