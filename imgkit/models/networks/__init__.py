"""Networks that timm does not have, registered with it: importing this package is enough to give them names."""

from imgkit.models.networks import cbam, resnet_mlp

__all__ = ["cbam", "resnet_mlp"]
