"""Align, Adapt, Inject: sound-guided images for ComfyUI. The entry point alone; the nodes are in `nodes/`."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Called by ComfyUI once while it starts."""
    from .nodes import AlignAdaptInject

    return AlignAdaptInject()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
