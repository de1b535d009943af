"""What an artist sees: node declarations, joined here into one list."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension


class AlignAdaptInject(ComfyExtension):
    """The pack's extension; ComfyUI asks it for the nodes once, at start."""

    async def get_node_list(self):
        from . import adapt, align, batch, image_embedding, inject, pocket, prompts, retrieve, view
        from .host.base import folders, short_paths
        from .host.hear import outlines

        folders.register()
        outlines.register()
        modules = (align, retrieve, adapt, inject, prompts, batch, view, pocket, image_embedding)
        return [short_paths.guard(node) for module in modules for node in module.NODES]
