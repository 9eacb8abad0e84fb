"""Networks: names, weights, what is frozen, the folder they are kept in.

`register_model` is timm's own decorator: a network registered with it is made by `timm.create_model` too, and so it
has a name on imgkit's command line. Its function takes timm's keywords (`pretrained`, `num_classes`, `**kwargs`).
"""

from timm.models import register_model

__all__ = ["register_model"]
