"""imgkit's own networks, in timm's registry: `timm.create_model("vgg_a")` makes them once this package is imported.

Their names are listed in `imgkit.model_names.OWN`, which needs no torch.
"""

from imgkit.models.networks import cbam, lsvrc, multilabel_cnn, resnet_mlp, vgg_paper

__all__ = ["cbam", "lsvrc", "multilabel_cnn", "resnet_mlp", "vgg_paper"]
