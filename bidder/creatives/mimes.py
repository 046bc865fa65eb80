"""Does a slot that lists content types take this image or this HTML?"""

HTML = frozenset({"text/html", "application/xhtml+xml"})
SCRIPT = frozenset({"text/javascript", "application/javascript", "application/x-javascript"})

_BY_ENDING = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "svg": "image/svg+xml",
}


def image_type(url: str) -> str:
    """The content type that the ending of an image's path tells; empty if it tells none."""
    path = url.split("?", 1)[0].split("#", 1)[0]
    return _BY_ENDING.get(path.rsplit(".", 1)[-1].lower(), "")


def accepts_image(mimes: frozenset[str], url: str) -> bool:
    """Whether `mimes` (empty = any) name the type of this image.

    ``image/jpg``, which many exchanges send, is taken for ``image/jpeg``. Where the ending does not
    tell the type, any image type will do.
    """
    if not mimes:
        return True
    kind = image_type(url)
    if not kind:
        return any(mime.startswith("image/") for mime in mimes)
    return kind in mimes or (kind == "image/jpeg" and "image/jpg" in mimes) or "image/*" in mimes
