"""Networks: names, weights, what is frozen, the folder they are kept in.

A network registered with `timm.models.register_model` has a name here too. Its function takes timm's keywords
(`pretrained`, `num_classes`, `**kwargs`).
"""
