"""imgkit: transfer learning for image classification on timm.

import imgkit
run = imgkit.finetune("resnet50", data="cells/")
"""

from imgkit.api import Run, finetune, open_run, resume, scratch
from imgkit.errors import ImgkitError

__version__ = "0.1.0"
__all__ = ["ImgkitError", "Run", "__version__", "finetune", "open_run", "resume", "scratch"]
