"""Damage: bytes, headers, JSON values and texts changed at random, the same for the same `random.Random`."""

from __future__ import annotations

import json
import random
import struct

EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
ODD = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        -(2**63),
        2**64,
        10**30,
        0.5,
        -0.0,
        1e308,
        1e-308,
        float("nan"),
        float("inf"),
    ),
    *("", " ", "\0", "a", "<A*>", "../../x", "/etc/passwd", "C:\\x", "\ud800", "é" * 300, "nan", "-1", "0x10", "1e999"),
    *([], {}, [[]], [None], ["1", 0], [1, 2], {"a": {}}, [0] * 100, "[" * 200, {"__proto__": 1}),
)
PIECES = (
    *(
        "<A*>",
        "<A1>",
        "<A2>",
        "<A99>",
        "<A*",
        "A*>",
        "<<A*>>",
        "< A * >",
        "<a*>",
        "\uff1cA*\uff1e",
        "<A0>",
        "<A-1>",
        "<A٣>",
    ),
    *("(", ")", "((", "))", "(<A*>:1.2)", "(<A*>:", ":1e38)", ":-1)", ":nan)", "\\(", "\\)", "\\", "[", "]", "{", "}"),
    *("embedding:", "embedding:<A*>", "embedding:missing", " embedding:../../x ", "BREAK", "AND", "lora:x:1", "|", ","),
    *(
        "a photo of a dog",
        "on a beach",
        "犬の写真",
        "собака",
        "كلب",
        "👩\u200d👩\u200d👧",
        "é",
        "e\u0301",
        "\u202e",
        "ß",
        "ﬁ",
    ),
    *(
        "\n",
        "\t",
        "\0",
        "\r\n",
        "\ufeff",
        "\u200b",
        "__aai_1__",
        "__aai_A__",
        "0.5",
        "-",
        ";",
        "beach: 0.5",
        "x: 1-2",
        "%",
    ),
)


def damaged(data: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """Bytes with one to eight changes; `other`: a file that parts may come from."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5, 8))):
        changed = rng.choice(BYTE_CHANGES)(changed, rng, other)
    return bytes(changed)


def _place(data: bytearray, rng: random.Random) -> int:
    """A place in the data; headers are at the beginning, so half of them lie there."""
    return rng.randrange(max(1, min(len(data), 256) if rng.random() < 0.5 else len(data)))


def _flip(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    if data:
        data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return data


def _edge(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    size, at = rng.choice((1, 2, 4, 8)), _place(data, rng)
    value = rng.choice(EDGES) % 256**size
    data[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
    return data


def _cut(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    return data[: _place(data, rng)] if rng.random() < 0.5 else data[_place(data, rng) :]


def _remove(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    at = _place(data, rng)
    del data[at : at + rng.randrange(1, 64)]
    return data


def _repeat(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    at = _place(data, rng)
    part = data[at : at + rng.randrange(1, 4096)]
    return data[:at] + part * rng.randrange(1, 8) + data[at:]


def _noise(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    at = _place(data, rng)
    data[at : at + rng.randrange(1, 512)] = rng.randbytes(rng.randrange(512))
    return data


def _zeros(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    at, count = _place(data, rng), rng.randrange(1, 4096)
    data[at : at + count] = bytes(count)
    return data


def _splice(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    at = rng.randrange(len(other) + 1)
    return data[: _place(data, rng)] + other[at : at + 8192]


def _deep(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    return bytearray(b"[" * 100_000) if rng.random() < 0.1 else data


BYTE_CHANGES = (_deep, _flip, _flip, _edge, _edge, _cut, _remove, _repeat, _noise, _zeros, _splice)


def odd_safetensors(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose JSON header says something else; its tensors' bytes stay."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    changed = _odd_metadata(header, rng) if rng.random() < 0.7 else odd_json(header, rng)
    text = json.dumps(changed).encode("utf-8", "surrogatepass")
    said = rng.choice(EDGES) if rng.random() < 0.05 else len(text)
    return struct.pack("<Q", said) + text + data[8 + size :]


def _odd_metadata(header: dict, rng: random.Random) -> dict:
    """Changes inside the strings of a header, which hold JSON and numbers of our own."""
    told = header.get("__metadata__")
    if not told:
        return odd_json(header, rng)
    key = rng.choice(sorted(told))
    try:
        value = json.dumps(odd_json(json.loads(told[key]), rng))
    except ValueError:
        value = damaged(told[key].encode(), rng).decode("utf-8", "replace")
    if rng.random() < 0.03:
        value = "[" * 100_000
    if rng.random() < 0.1:
        return {**header, "__metadata__": {k: v for k, v in told.items() if k != key}}
    return {**header, "__metadata__": {**told, key: value}}


def odd_json(value, rng: random.Random):
    """The same JSON with something in it of another type, size, name, or not there."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if rng.random() < 0.1:
            return {**value, str(rng.choice(ODD)): value[key]}
        return {**value, key: odd_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], odd_json(value[at], rng), *value[at + 1 :]]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.5:
        return rng.choice((value + 1, -value, value * 2, value / 3, value * 10**9))
    if isinstance(value, str) and value and rng.random() < 0.4:
        return damaged(value.encode("utf-8", "replace"), rng).decode("utf-8", "replace")
    return rng.choice(ODD)


def odd_text(rng: random.Random) -> str:
    """A prompt, a list of numbers or names, put together from pieces that people and programs write."""
    parts = [rng.choice(PIECES) for _ in range(rng.choice((0, 1, 2, 3, 5, 8, 13)))]
    if rng.random() < 0.02:
        parts *= 200
    if rng.random() < 0.02:
        parts.append(f"<A{'9' * 5000}>")
    return rng.choice(("", " ", " ", ", ")).join(parts)
