"""Hard attention: models that look at one place at a time, trained by the variational bound.

Built on the public functions of the toolkit alone; `jaxelbo.hard_attention` has the bound itself.
"""

from jaxelbo.attention import (
    canvases,
    digit_files,
    glimpses,
    layers,
    learning_rules,
    one_glimpse,
    recurrent_attention,
)

__all__ = ["canvases", "digit_files", "glimpses", "layers", "learning_rules", "one_glimpse", "recurrent_attention"]
