"""libtiff's own messages, which it writes straight to the process's standard error, switched off.

A damaged TIFF is told in Atypia's words, by an error that names the file; libtiff's lines («tempfile.tif: Using code
not yet in table.») name none, come from any thread, and would stand in the middle of a progress bar. Its handler
of errors is one for the whole process and Pillow does not offer it, so it is set in the libtiff that Pillow has loaded.
"""

from __future__ import annotations

import ctypes

from PIL import Image


def silence_libtiff() -> bool:
    """Sets Pillow's libtiff to write nothing; Pillow raises its exceptions as before.

    Returns:
        Whether it was done; a Pillow with libtiff built into it, as on Windows, offers no way.
    """
    try:
        library = ctypes.CDLL(Image.core.__file__)  # through what is loaded, so that no second libtiff is
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            function = library[name]
            function.argtypes, function.restype = (ctypes.c_void_p,), ctypes.c_void_p
            function(None)
    except (OSError, AttributeError):
        return False
    return True
