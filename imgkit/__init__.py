"""imgkit: transfer learning for image classification on timm.

import imgkit
run = imgkit.finetune("resnet50", data="cells/")
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imgkit.api import Folds, Run, finetune, lr_find, open_run, resume, scratch
    from imgkit.api_probe import probe
    from imgkit.api_study import study
    from imgkit.errors import ImgkitError
    from imgkit.estimator import ImageClassifier

__version__ = "0.1.0"
__all__ = [
    "Folds",
    "ImageClassifier",
    "ImgkitError",
    "Run",
    "__version__",
    "finetune",
    "lr_find",
    "open_run",
    "probe",
    "resume",
    "scratch",
    "study",
]


def __getattr__(name: str) -> object:
    """Import the public names when they are asked for, so that `import imgkit` and `imgkit --help` stay quick."""
    if name == "ImgkitError":
        from imgkit.errors import ImgkitError

        return ImgkitError
    if name == "ImageClassifier":
        from imgkit.estimator import ImageClassifier

        return ImageClassifier
    if name == "probe":
        from imgkit.api_probe import probe

        return probe
    if name == "study":
        from imgkit.api_study import study

        return study
    if name in __all__:
        from imgkit import api

        return getattr(api, name)
    raise AttributeError(f"module 'imgkit' has no attribute {name!r}")
