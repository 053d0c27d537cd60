"""What a fit met on its way, for the verdict on it.

Floor 1.
"""

from typing import NamedTuple

import jax


class Course(NamedTuple):
    """What happened on the way, scalars but for the direction.

    Attributes:
      num_gradients: of the log density; a Hessian-vector product counts as one.
      num_evaluations: values without gradient.
      is_finite_at_start: whether the log density was.
      has_mode: whether the climb ended near a mode.
      flat_direction: ``[D]``, zeros where the log density falls along every direction.
      gain: what a natural-gradient step would gain at the end, in nats, as far as the draws tell.
    """

    num_gradients: jax.Array
    num_evaluations: jax.Array
    is_finite_at_start: jax.Array
    has_mode: jax.Array
    flat_direction: jax.Array
    gain: jax.Array
