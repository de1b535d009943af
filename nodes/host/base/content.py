"""Describes values as bytes: by value, never by address, so that another process gets the same bytes."""

from __future__ import annotations

import contextlib
import enum
import functools
import logging
import pathlib
import re
import sys
import threading
import types
import uuid
import weakref
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

SAMPLED = 64  # values of each weight
WHOLE = 2**24  # values of a tensor inside a function or an object; of a larger one as many, evenly spaced
# Classes of these packages are known by their names; of any other, and of those made inside functions, the code counts.
KNOWN_PACKAGES = {"torch", "numpy", "PIL", "comfy", "safetensors", *sys.stdlib_module_names}
PLAIN = (complex, range, slice, re.Pattern, pathlib.PurePath, uuid.UUID, type(Ellipsis), type(NotImplemented))
LOCKS = (type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Event, logging.Logger)
# What the host writes onto a layer while it loads it, and torch's own books.
OF_LOADING = re.compile(
    r"^(_v|_is_full|comfy_|prev_comfy_|(weight|bias)_(lowvram_)?function$|seed_key$|training$)|_comfy_"
)
HEAP_TYPE = 1 << 9  # set on classes that Python code made


def sampled(tensor: Tensor, most: int = SAMPLED) -> bytes:
    """Shape, type and up to `most` evenly spaced values of a weight, wherever it lies. One that is still to be made
    counts as zeros, which the host makes of it."""
    # `data`, not `detach()`: of a weight that was made in inference mode and moved outside of it, PyTorch gives no views.
    tensor, count = tensor.data, tensor.numel()
    stride = max(1, count // most)
    if tensor.is_meta:
        values = torch.zeros(min(len(range(0, count, stride)), most))
    elif tensor.is_contiguous():
        values = tensor.view(-1)[::stride][:most]
    else:  # flattening it would copy all of it
        places = torch.arange(0, count, stride, device=tensor.device)[:most]
        values = tensor[torch.unravel_index(places, tensor.shape)] if tensor.ndim else tensor
    return f" {tuple(tensor.shape)} {tensor.dtype}".encode() + values.float().cpu().contiguous().numpy().tobytes()


class Content:
    """Describes values one after the other.

    `described` turns objects of the host (models, text encoders) into bytes, and gives None for any other. `unknown`
    then holds what could not be described with certainty; in this process such an object equals only itself.
    """

    def __init__(self, described: Callable[[object, Content], bytes | None] = lambda value, content: None):
        self.unknown: list[str] = []
        self._described = described
        self._names: dict[int, str] = {}
        self._named: list = []  # keeps what has a name, whose ids must not be given away
        self._seen: dict[int, tuple[object, bytes]] = {}  # keeps what it describes, whose ids must not be given away
        self._deep = 0  # inside a function or an object, where a single value of a tensor may decide
        self._aside = 0  # among the names of a module, of which only what is certain counts

    def name(self, owner, names: dict[int, str]) -> None:
        """Call objects (by their ids) that `owner` holds by their names from now on: the layers of a model."""
        self._named.append(owner)
        self._names.update(names)

    def knows(self, value) -> bool:
        return id(value) in self._names

    def of(self, value) -> bytes:
        """The bytes of any value."""
        try:
            return self._of(value)
        except Exception:  # properties of other packs can raise anything; also what is nested too deep
            return self._give_up(value)

    def _of(self, value) -> bytes:
        if id(value) in self._names:
            return f"<{self._names[id(value)]}>".encode()
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, enum.Enum):
            return f"{type(value).__qualname__}.{value.name}".encode()
        if value is None or isinstance(value, (bool, bytes)):
            return repr(value).encode()
        for kind in (str, int, float):
            if isinstance(value, kind):  # also numpy's, which say so in their repr
                return kind.__repr__(value).encode("utf-8", "surrogateescape")
        if type(value) in (dict, types.MappingProxyType):
            return self._mapping(value)
        if type(value) in (list, tuple):
            return b"[" + b",".join(map(self._of, value)) + b"]"
        return self._once(value, self._object)

    def _tensor(self, tensor: Tensor) -> bytes:
        if tensor.layout != torch.strided:
            return str(tuple(tensor.shape)).encode() + self._give_up(tensor)
        if not self._deep or tensor.is_meta:
            return sampled(tensor)
        exact = (
            torch.float64 if tensor.is_floating_point() else torch.complex128 if tensor.is_complex() else torch.int64
        )
        flat = tensor.data.reshape(-1)
        flat = flat[:: max(1, flat.numel() // WHOLE)]
        return str(tuple(tensor.shape)).encode() + flat.cpu().to(exact).contiguous().numpy().tobytes()

    def _mapping(self, value) -> bytes:
        # What is kept for a device ("this one lacks fft") is no setting.
        items = [(key, item) for key, item in value.items() if not isinstance(key, torch.device)]
        return b"{" + b",".join(self._of(key) + b":" + self._of(item) for key, item in items) + b"}"

    def _once(self, value, describe) -> bytes:
        """What was described before, or is being described further up, is named and not described again."""
        if id(value) not in self._seen:
            self._seen[id(value)] = value, f"<{len(self._seen)}>".encode()
            self._seen[id(value)] = value, describe(value)
        return self._seen[id(value)][1]

    def _object(self, value) -> bytes:
        known = self._described(value, self)
        if known is not None:
            return known
        if type(value).__module__.startswith("comfy.weight_adapter"):  # of a LoRA: its matrices, sampled as weights are
            weights = getattr(value, "weights", None)
            return type(value).__qualname__.encode() + (self._of(weights) if weights else b"")
        self._deep += 1
        try:
            return self._deeper(value)
        finally:
            self._deep -= 1

    def _deeper(self, value) -> bytes:
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return b"method" + self._of(value.__self__) + self._of(value.__func__)
        if isinstance(value, (types.BuiltinFunctionType, types.MethodWrapperType, types.WrapperDescriptorType)):
            owner = getattr(value, "__self__", None)
            inside = b"" if owner is None or isinstance(owner, types.ModuleType) else self._of(owner)
            return f"{getattr(value, '__module__', '')}.{value.__qualname__}".encode() + inside
        if isinstance(value, functools.partial):
            return b"partial" + self._of([value.func, value.args, value.keywords])
        if isinstance(value, (staticmethod, classmethod)):
            return type(value).__name__.encode() + self._of(value.__func__)
        if isinstance(value, property):
            return b"property" + self._of([value.fget, value.fset])
        if isinstance(value, types.ModuleType):
            return value.__name__.encode()
        if isinstance(value, types.CodeType):
            return self._code(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, nn.Module):
            return self._module(value)
        return self._data(value)

    def _function(self, function: types.FunctionType) -> bytes:
        """Its code, defaults, what it closes over, and the functions and numbers of its module that it names."""
        cells = {}
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # a cell that is still empty
                cells[name] = cell.cell_contents
        parts = [function.__code__, function.__defaults__, function.__kwdefaults__, cells]
        parts += [vars(function)] if vars(function) else []
        described = function.__qualname__.encode() + self._of(parts)
        self._aside += 1
        try:
            return described + self._of(self._globals(function))
        finally:
            self._aside -= 1

    def _globals(self, function: types.FunctionType) -> dict:
        found = {}
        for name in sorted(_names_of(function.__code__)):
            value = function.__globals__.get(name)
            if isinstance(value, (types.FunctionType, type)) and value.__module__ != function.__module__:
                value = f"{value.__module__}.{value.__qualname__}"
            if isinstance(value, (types.FunctionType, type, bool, int, float, str, Tensor)) or _is_simple(value):
                found[name] = value
        return found

    def _code(self, code: types.CodeType) -> bytes:
        return self._of([code.co_code, list(code.co_consts), code.co_names, code.co_varnames[: code.co_argcount]])

    def _class(self, kind: type) -> bytes:
        name = f"{kind.__module__}.{kind.__qualname__}"
        if kind.__module__.split(".")[0] in KNOWN_PACKAGES and "<locals>" not in name:
            return name.encode()
        kept = {
            key: item
            for key, item in vars(kind).items()
            if isinstance(item, (types.FunctionType, staticmethod, classmethod, property))
            or not key.startswith("_")
            or (not key.startswith("__") and _is_simple(item))
        }
        return name.encode() + self._of([list(kind.__bases__), kept])

    def _module(self, module: nn.Module) -> bytes:
        """Class, weights, settings, and what is hooked into a forward pass; not what loading writes onto it."""
        settings = {
            key: item
            for key, item in vars(module).items()
            if not OF_LOADING.search(key) and (not key.startswith("_") or _is_simple(item))
        }
        hooks = [getattr(module, name, None) for name in ("_forward_hooks", "_forward_pre_hooks")]
        hooks = [list(table.values()) for table in hooks if table]
        weights = b"".join(
            name.encode() + sampled(tensor)
            for table in (module._parameters, module._buffers)
            for name, tensor in table.items()
            if tensor is not None
        )
        return self._of([type(module), settings, hooks, dict(module._modules)]) + weights

    def _data(self, value) -> bytes:
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}".encode()
        if isinstance(value, torch.device):
            return b"device"
        if isinstance(value, torch.dtype):
            return str(value).encode()
        if isinstance(value, (*PLAIN, torch.layout, torch.memory_format)):
            return name + repr(value).encode("utf-8", "surrogateescape")
        if isinstance(value, LOCKS):
            return name
        if isinstance(value, (set, frozenset)):
            return name + b",".join(sorted(map(self._of, value)))
        if isinstance(value, np.generic):
            return self._of(value.item())
        if isinstance(value, np.ndarray) and value.dtype != object:
            return name + f"{value.shape}{value.dtype}".encode() + np.ascontiguousarray(value).tobytes()
        if isinstance(value, torch.Generator):
            return name + self._of(value.get_state())
        if isinstance(value, weakref.ref):
            return name + self._of(value())
        if isinstance(value, dict):
            return self._of(kind) + self._of(dict(value)) + self._of(getattr(value, "__dict__", None))
        if isinstance(value, (list, tuple)):
            return self._of(kind) + self._of(list(value)) + self._of(getattr(value, "__dict__", None))
        attributes = _attributes(value)
        if attributes is None:
            return self._give_up(value)
        if kind.__module__ == "comfy.hooks":  # which keyframe is the present one changes as it runs
            attributes = {key: item for key, item in attributes.items() if not key.startswith(("_cur", "start_t"))}
        return self._of(kind) + self._of(attributes)

    def _give_up(self, value) -> bytes:
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        if self._aside:
            return name.encode()
        self.unknown.append(name)
        return _own_mark(value).encode()


def _names_of(code: types.CodeType) -> set[str]:
    """Names that code looks up, and code inside it."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names_of(constant)
    return found


def _is_simple(value, depth: int = 3) -> bool:
    """Whether a value of a module is made of numbers and texts alone."""
    if isinstance(value, (bool, int, float, str)):
        return True
    if depth and type(value) in (list, tuple) and len(value) < 1000:
        return all(_is_simple(item, depth - 1) for item in value)
    if depth and type(value) is dict and len(value) < 1000:
        return all(_is_simple(part, depth - 1) for item in value.items() for part in item)
    return False


def _attributes(value) -> dict | None:
    """What an object of a class made in Python holds; None where something may be hidden from Python."""
    kinds = type(value).__mro__[:-1]
    slots = [kind.__dict__.get("__slots__") for kind in kinds]
    if any(not kind.__flags__ & HEAP_TYPE for kind in kinds):
        return None
    if not hasattr(value, "__dict__") and all(names is None for names in slots):
        return None
    names = [name for some in slots for name in ([some] if isinstance(some, str) else some or ())]
    return {**{name: getattr(value, name) for name in names if hasattr(value, name)}, **getattr(value, "__dict__", {})}


_marks: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _own_mark(value) -> str:
    """A mark that this object alone has, in this process alone; one that cannot be remembered gets a new one each time."""
    mark = uuid.uuid4().hex
    try:
        return _marks.setdefault(value, mark)
    except (TypeError, ValueError, RuntimeError):  # unhashable, or compared as tensors are
        return mark
