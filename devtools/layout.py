"""Where the nodes of an example stand: the paper's stages as groups, columns from left to right, wires in free lanes.

Two rows. Align and Adapt stand above, Inject below. A wire to the next column runs through the gap between them; every other
one takes a lane above its row, held there by reroute points, so that none runs under a node.
"""

from __future__ import annotations

from dataclasses import dataclass, field

TITLE = 30  # pixels of a node's title bar, which the editor draws above its position
SLOT, WIDGET, GAP, BETWEEN = 20, 24, 80, 24  # heights of a socket and a widget; room between columns, and between nodes
LANE, PADDING = 16, 20  # distance of two wires side by side; a group's margin
FONT = 36  # of a group's title: to be read when all of an example is on the screen
HEADER = 2 * FONT - PADDING  # from a group's first node line to its first lane, below its title
FAR = 450  # pixels; over a longer way down, a wire gets one point more, or it swings out under its neighbours

ALIGN = ("Align: the sound is heard", "#6fa8dc")
ADAPT = ("Adapt: it becomes a word", "#93c47d")
INJECT = ("Inject: the word goes into a picture", "#f6b26b")
REAL = ("Real models (off)", "#999999")
NOTE = ("", "")  # stands without a frame
HEARS = (
    *("AAI_PocketModels", "CheckpointLoaderSimple", "AAI_LoadCAVT", "AAI_PocketSound", "AAI_LoadAudio"),
    *("AAI_CAVTEncode", "AAI_AudioOverview", "AAI_RetrieveImages"),
)
LEARNS = ("AAI_TrainAudioToken", "AAI_WordFromSound", "AAI_LoadAudioToken", "AAI_ApplyAdapter")
FOLLOWS = ("SaveImage", "LossGraphNode", "AAI_SaveAudioToken")  # stand where what they show was made

WIDTHS = {"AAI_CAVTEncode": 250, "VAEDecode": 170, "ImageFromBatch": 170, "MarkdownNote": 560, "AAI_PocketModels": 250}
WIDTHS |= {"AAI_TrainAudioToken": 310, "CheckpointLoaderSimple": 310, "ImageCompare": 300, "AAI_WatchWords": 230}
WIDTHS |= {"AAI_P2PAttentionInject": 280}
# Room for what a node shows or plays beside its sockets and widgets.
ROOM = {"AAI_LoadAudio": 200, "AAI_PocketSound": 80, "LoadImage": 212, "SaveImage": 212, "LossGraphNode": 212}
ROOM |= {"AAI_PocketScene": 212, "AAI_AudioOverview": 220, "AAI_RetrieveImages": 322, "AAI_EditSheet": 188}
ROOM |= {"AAI_LoudnessStrip": 212, "AAI_AttentionHeatmap": 212, "SaveAnimatedWEBP": 212, "ImageCompare": 230}
ROOM |= {"AAI_WordFromSound": 94, "AAI_SaveAudioToken": 114, "AAI_BatchStylize": 322, "KSampler": 44}
ROOM |= {"AAI_TrainAudioToken": 278}
TALL = 950  # pixels; a higher column becomes two, side by side
COLLAPSED = ("ImageFromBatch",)  # only their title is shown


@dataclass
class Group:
    """A coloured frame and its nodes, column by column."""

    title: tuple[str, str]  # text, colour
    columns: list[list[int]]
    bounding: list[float] = field(default_factory=list)


@dataclass
class Place:
    """Where a node stands in the grid: its row, its column counted over the whole row, and the column's two sides."""

    row: int
    column: int
    left: float = 0
    right: float = 0


def size_of(node: dict, widgets: int, tall: int) -> list[int]:
    """Width and height of a node with so many widget rows, of which `tall` are fields of several lines."""
    if node["type"] in COLLAPSED:
        return [WIDTHS[node["type"]], 0]
    rows = max(sum("widget" not in slot for slot in node["inputs"]), len(node["outputs"]))
    height = 14 + SLOT * rows + WIDGET * widgets + 50 * tall + ROOM.get(node["type"], 0)
    return [WIDTHS.get(node["type"], 270), height]


def stage_of(prompt: dict, key: str) -> tuple[str, str]:
    """The stage of the paper to which a node of an API prompt belongs."""
    kind = prompt[key]["class_type"]
    sources = [value[0] for value in prompt[key]["inputs"].values() if isinstance(value, list)]
    if kind in FOLLOWS and sources:
        return stage_of(prompt, sources[0])
    if kind in HEARS:
        return ALIGN
    readers = {slot for n in prompt.values() for slot, v in n["inputs"].items() if isinstance(v, list) and v[0] == key}
    return ADAPT if kind in LEARNS or any(slot.startswith("references") for slot in readers) else INJECT


def columns_of(prompt: dict, keys: list[str]) -> list[list[int]]:
    """Some of a prompt's nodes in columns: each right of its sources; what has none stands left of its first reader."""
    inside = set(keys)
    wires = {k: [v[0] for v in prompt[k]["inputs"].values() if isinstance(v, list) and v[0] in inside] for k in keys}
    column: dict[str, int] = {}

    def find(key: str) -> int:
        if key not in column:
            column[key] = 1 + max((find(source) for source in wires[key]), default=-1)
        return column[key]

    for key in keys:
        find(key)
    for key in keys:
        readers = [column[reader] for reader in keys if key in wires[reader]]
        if not wires[key] and readers:
            column[key] = max(0, min(readers) - 1)
    columns: list[list[int]] = [[] for _ in range(max(column.values(), default=-1) + 1)]
    for key in keys:
        columns[column[key]].append(int(key))
    return columns


class Sheet:
    """Places nodes in rows of groups, then leads the wires."""

    def __init__(self, nodes: dict[int, dict], links: list[list], rows: list[list[Group]]):
        self.nodes, self.links, self.rows = nodes, links, rows
        self.places: dict[int, Place] = {}
        self.reroutes: list[dict] = []
        self.extensions: list[dict] = []
        for number, row in enumerate(rows):
            count = 0
            for group in row:
                group.columns = [part for column in group.columns for part in self._parts(column)]
                for column in group.columns:
                    self.places |= {key: Place(number, count) for key in column}
                    count += 1

    def arrange(self) -> None:
        lanes = self._lanes()
        y = 0.0
        for number, row in enumerate(self.rows):
            top = y + HEADER + LANE * len(lanes[number]) + TITLE
            bottom = self._place_row(row, y, top)
            self._lead(number, lanes[number], top - TITLE - LANE)
            y = bottom + 2 * PADDING + 10
        self._lead_straight()
        self.extensions.sort(key=lambda entry: entry["id"])

    def _parts(self, column: list[int]) -> list[list[int]]:
        """A column, or several of at most `TALL` pixels each if they have more than one node."""
        parts, height = [[]], 0
        for key in column:
            height += self.nodes[key]["size"][1] + TITLE + BETWEEN
            if parts[-1] and height > TALL:
                parts.append([])
                height = self.nodes[key]["size"][1] + TITLE + BETWEEN
            parts[-1].append(key)
        return parts

    def _place_row(self, row: list[Group], y: float, top: float) -> float:
        """Give each node of a row its position; returns where the row ends."""
        x, bottom = 0.0, top
        for group in row:
            left, end = x - PADDING, top
            for column in group.columns:
                width = max(self.nodes[key]["size"][0] for key in column)
                below = top
                for key in column:
                    node = self.nodes[key]
                    node["pos"], node["size"][0] = [x, below], width
                    below += node["size"][1] + TITLE + BETWEEN
                    self.places[key].left, self.places[key].right = x, x + width
                x, end = x + width + GAP, max(end, below - TITLE - BETWEEN)
            group.bounding = [left, y - PADDING, x - GAP + PADDING - left, 0]
            bottom = max(bottom, end)
        for group in row:
            group.bounding[3] = bottom + 2 * PADDING - y
        return bottom

    def _routed(self, link: list) -> bool:
        """Whether a wire needs a lane: all but those to the next column of the same row."""
        source, target = self.places[link[1]], self.places[link[3]]
        return (source.row, source.column + 1) != (target.row, target.column)

    def _lanes(self) -> list[list[dict]]:
        """For each row its lanes, the highest first; a lane maps an output (node, slot) to its wires. Outputs whose ways
        do not meet share one."""
        lanes: list[list[dict]] = []
        for number in range(len(self.rows)):
            nets: dict[tuple, list] = {}
            for link in self.links:
                if self.places[link[3]].row == number and self._routed(link):
                    nets.setdefault((link[1], link[2]), []).append(link)
            spans = {net: self._span(number, wires) for net, wires in nets.items()}
            row: list[dict] = []
            for net in sorted(nets, key=lambda net: (spans[net], net)):
                free = [n for n, lane in enumerate(row) if all(spans[o][1] < spans[net][0] for o in lane)]
                if free:
                    row[free[0]][net] = nets[net]
                else:
                    row.append({net: nets[net]})
            lanes.append(row)
        return lanes

    def _span(self, row: int, wires: list) -> tuple[int, int]:
        """First and last column over which an output's wires run; from another row they may come from anywhere."""
        source = self.places[wires[0][1]]
        targets = [self.places[link[3]].column for link in wires]
        return (source.column + 1 if source.row == row else -1, max(targets) if source.row == row else 99)

    def _lead(self, number: int, lanes: list[dict], base: float) -> None:
        """Set the points of a row's wires: up or down in the gap behind the source, along the lane, into the gap before
        each target."""
        for index, lane in enumerate(lanes):
            y, aside = base - LANE * index, 8 * (index % 5)
            for (key, slot), wires in lane.items():
                x = self.places[key].right + 24 + aside
                start = self._slot(key, slot)
                ids = [link[0] for link in wires]
                first = self._point(None, x - 6, start, ids) if abs(start - y) > FAR else None
                first = self._point(first, x, y, ids)
                by_gap: dict[float, list] = {}
                for link in wires:
                    by_gap.setdefault(self.places[link[3]].left - 24 - aside, []).append(link)
                for side in (sorted(g for g in by_gap if g >= x), sorted((g for g in by_gap if g < x), reverse=True)):
                    before = first
                    for place, gap in enumerate(side):
                        onward = [link[0] for g in side[place:] for link in by_gap[g]]
                        before = before if gap == x else self._point(before, gap, y, onward)
                        for link in by_gap[gap]:
                            end = self._slot(link[3], link[4])
                            last = self._point(before, gap + 6, end, [link[0]]) if abs(end - y) > FAR else before
                            self.extensions.append({"id": link[0], "parentId": last})

    def _lead_straight(self) -> None:
        """Set the points of wires to the next column that would swing out under a node: over a long way up or down, and
        from a collapsed node, which ends before its column does."""
        for link in self.links:
            if self._routed(link):
                continue
            x = self.places[link[1]].right + GAP / 2
            start, end = self._slot(link[1], link[2]), self._slot(link[3], link[4])
            last = None
            if self.nodes[link[1]]["type"] in COLLAPSED or abs(start - end) > FAR:
                last = self._point(None, x - 3, start, [link[0]])
            if abs(start - end) > FAR:
                last = self._point(last, x + 3, end, [link[0]])
            if last is not None:
                self.extensions.append({"id": link[0], "parentId": last})

    def _slot(self, key: int, slot: int) -> float:
        """How high a socket lies; those of a collapsed node lie in its title."""
        node = self.nodes[key]
        return node["pos"][1] + (-TITLE / 2 if node["type"] in COLLAPSED else SLOT * (slot + 0.7))

    def _point(self, parent: int | None, x: float, y: float, links: list[int]) -> int:
        """A reroute point, which the editor calls by its number."""
        number = len(self.reroutes) + 1
        parent_of = {} if parent is None else {"parentId": parent}
        self.reroutes.append({"id": number, **parent_of, "pos": [round(x, 1), round(y, 1)], "linkIds": sorted(links)})
        return number
