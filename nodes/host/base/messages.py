"""Short texts for the person at the screen, shown on the node and sent as an event."""

from __future__ import annotations

import sys

from comfy_execution.utils import get_executing_context

from .shown import without_paths

EVENT = "aai.message"


def tell(text: str) -> None:
    """Show `text` on the node that runs now. Where no server runs, as in a script, this does nothing."""
    # Not imported: without a running server the import would create one.
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    context = get_executing_context()
    if server is None or context is None:
        return
    text = without_paths(text)
    server.send_progress_text(text, context.node_id)
    server.send_sync(EVENT, {"node": context.node_id, "prompt_id": context.prompt_id, "text": text})
