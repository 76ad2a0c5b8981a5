"""Static files as they are served: hashed, compressed, modules importing each other by hashed names."""

from django.contrib.staticfiles.storage import HashedFilesMixin
from whitenoise.storage import CompressedManifestStaticFilesStorage

# Django's own switch would look into the modules of other packages too, and those import what is not there.
MODULES = (
    "js/*.js",
    (
        (r"""(?P<matched>from "(?P<url>\.\.?/[\w./-]+\.js)")""", 'from "%(url)s"'),
        (r"""(?P<matched>import\("(?P<url>\.\.?/[\w./-]+\.js)"\))""", 'import("%(url)s")'),
    ),
)


class ModuleStaticFilesStorage(CompressedManifestStaticFilesStorage):
    """WhiteNoise's storage; without this a page would import yesterday's module from a browser's cache."""

    patterns = (*HashedFilesMixin.patterns, MODULES)
