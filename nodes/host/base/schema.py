"""Node declarations with what the running host's version can show, and no more: one place knows where versions differ."""

from __future__ import annotations

from dataclasses import fields

from comfy_api.latest import io

# Fields of a declaration that some versions do not have yet; a node without them works the same and is found less easily.
NEWER = ("search_aliases", "essentials_category", "has_intermediate_output", "is_experimental")
KNOWN = {field.name for field in fields(io.Schema)}
SLIDER_ENDS = (1.0, 2.0)  # a share, or a scale as in Eq. 8


def schema(**declared) -> io.Schema:
    """A node's declaration. Numbers from 0 to 1 and from 0 to 2 become sliders."""
    for name in NEWER:
        if name not in KNOWN:
            declared.pop(name, None)
    for one in declared["inputs"]:
        is_share = isinstance(one, io.Float.Input) and one.min == 0 and one.max in SLIDER_ENDS
        if is_share and not one.force_input and one.display_mode is None:
            one.display_mode = io.NumberDisplay.slider
    return io.Schema(**declared)


def advanced(inputs: list) -> list:
    """The same inputs, folded away until a person asks for more. Sockets are always drawn."""
    for one in inputs:
        one.extra_dict["advanced"] = True  # the named argument for it is newer than the place
    return inputs
