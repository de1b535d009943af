"""Which folders of this machine a prompt may read. docs/security.md says why.

A server that only its own machine reaches reads whatever folder its user names. One that others reach reads ComfyUI's
input and output folders and those that its operator names as `aai_folders` in extra_model_paths.yaml, as the host does
with the folders of its dataset nodes.
"""

from __future__ import annotations

import ipaddress
import os

import comfy.cli_args
import folder_paths

from ....aai_models.errors import LibraryError

KEY = "aai_folders"  # in extra_model_paths.yaml
_named: list[str] = []


def register() -> None:
    """Take what the operator named out of the host's table of model folders: of these, it lists every file to a browser."""
    paths, _ = folder_paths.folder_names_and_paths.pop(KEY, ([], set()))
    _named[:] = dict.fromkeys([*_named, *paths])


def named() -> dict[str, str]:
    """Folders that the operator named, by the last part of their path."""
    return {os.path.basename(os.path.normpath(path)) or path: path for path in _named}


def is_confined() -> bool:
    """Whether prompts read only some folders: others reach this server, or its operator named folders."""
    args = comfy.cli_args.args
    return bool(_named) or args.multi_user or not all(map(_is_this_machine, (args.listen or "").split(",")))


def _is_this_machine(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.strip()).is_loopback
    except ValueError:
        return address.strip() in ("", "localhost")


def roots() -> list[str]:
    """The folders that a confined server reads, with all that is in them."""
    return [folder_paths.get_input_directory(), folder_paths.get_output_directory(), *_named]


def may_read(path: str | os.PathLike) -> bool:
    """Whether a prompt may read what lies at `path`, after all links."""
    return not is_confined() or any(_is_in(os.path.realpath(root), os.path.realpath(path)) for root in roots())


def require_readable(path: str | os.PathLike, given: str) -> None:
    """Raises `LibraryError` for a path that a prompt may not read, whether there is anything or not.

    Nothing outside is touched to find that out: on Windows, to look at `\\\\machine\\share` is to sign in there.
    """
    if not is_confined():
        return
    plain = os.path.abspath(path)
    known = [form for root in roots() for form in (os.path.abspath(root), os.path.realpath(root))]
    if any(_is_in(root, plain) for root in known) and may_read(plain):
        return
    own = ", ".join(named())
    raise LibraryError(
        f"The folder {given!r} is not one that this server lets workflows read",
        "Allowed are ComfyUI's input and output folders" + (f", and {own}" if own else "") + ", with what is in them",
        f"Put the files into the input folder; or whoever runs the server names their folder as `{KEY}` in "
        "extra_model_paths.yaml",
    )


def _is_in(root: str, path: str) -> bool:
    root, path = os.path.normcase(root), os.path.normcase(path)
    try:
        return os.path.commonpath((root, path)) == root
    except ValueError:  # another drive
        return False
