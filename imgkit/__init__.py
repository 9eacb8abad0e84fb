"""imgkit: transfer learning for image classification on timm."""

__version__ = "0.1.0"
