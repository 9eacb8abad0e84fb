"""What a network takes over from the plain one that it is built on."""

from timm.models import PretrainedCfg, get_pretrained_cfg


def plain_config(name: str) -> PretrainedCfg:
    """Where timm's weights of that name are, and what they were made for."""
    config = get_pretrained_cfg(name)
    assert config is not None, f"timm has no weights {name}"
    return config
