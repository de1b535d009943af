"""Short texts for the person at the screen. The pack's script draws them on the node; a note is also shown beside the graph."""

from __future__ import annotations

import sys

from comfy_execution.utils import get_executing_context

from .short_paths import without_paths

EVENT = "aai.message"
NOTE, PROGRESS = "note", "progress"  # what a person must not miss; what only tells how far a node is


def tell(text: str) -> None:
    """Show `text` to the person whose prompt runs now. Without a server, as in a script, this does nothing."""
    _send(text, NOTE)


def tell_progress(text: str) -> None:
    """Show `text` on the node that runs now, in the place of the last such text."""
    _send(text, PROGRESS)


def _send(text: str, kind: str) -> None:
    # Not imported: without a running server the import would create one.
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    context = get_executing_context()
    if server is None or context is None or server.client_id is None:  # nobody listens; to all would be to strangers
        return
    message = {"node": context.node_id, "prompt_id": context.prompt_id, "kind": kind, "text": without_paths(text)}
    server.send_sync(EVENT, message, server.client_id)
