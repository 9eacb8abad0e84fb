"""Networks: imgkit's own, which this package registers with timm; weights, what is frozen, the folder they are kept in.

A network registered with `timm.models.register_model` has a name here too. Its function takes timm's keywords
(`pretrained`, `num_classes`, `**kwargs`).
"""

from imgkit.models import networks

__all__ = ["networks"]
