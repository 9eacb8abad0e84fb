"""imgkit's own networks, in timm's registry: `timm.create_model("vgg_a")` makes them once this package is imported.

Their names are listed in `imgkit.model_names.OWN`, which needs no torch.
"""

from imgkit.models.networks import lsvrc, multilabel_cnn, vgg_paper

__all__ = ["lsvrc", "multilabel_cnn", "vgg_paper"]
