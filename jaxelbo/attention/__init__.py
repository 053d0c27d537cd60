"""Hard attention: models that look at one place at a time, trained by the variational bound.

Built on the public functions of the toolkit alone; `jaxelbo.hard_attention` has the bound itself.
"""

from jaxelbo.attention import (
    canvases,
    caption_network,
    deep_recurrent_attention,
    digit_files,
    glimpses,
    layers,
    learning_rules,
    one_glimpse,
    one_glimpse_bounds,
    rationale_bounds,
    rationale_generators,
    rationale_masks,
    rationales,
    recurrent_attention,
    show_attend_tell,
    text_files,
    word_vectors,
)

__all__ = [
    "canvases",
    "caption_network",
    "deep_recurrent_attention",
    "digit_files",
    "glimpses",
    "layers",
    "learning_rules",
    "one_glimpse",
    "one_glimpse_bounds",
    "rationale_bounds",
    "rationale_generators",
    "rationale_masks",
    "rationales",
    "recurrent_attention",
    "show_attend_tell",
    "text_files",
    "word_vectors",
]
