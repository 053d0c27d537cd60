"""Reading a user's function as a traced program, for a check that shapes alone cannot make.

Floor 3.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxelbo.types import Latent, LogJoint


def check_no_integers(log_joint: LogJoint, draw: Callable[[], Latent]) -> None:
    """Requires that no integer is computed from the latent: a relaxed latent would have no gradient there.

    Traces ``log_joint`` once, at the shapes of what ``draw`` returns; evaluates nothing.
    """
    program = jax.make_jaxpr(log_joint)(jax.eval_shape(draw)).jaxpr
    if _makes_integers(program, [True] * len(program.invars)):
        raise TypeError(
            "log_joint turns the relaxed latent into integers (an index, argmax, astype(int), ...), through which no "
            "gradient flows; write it as arithmetic in the latent, such as latent @ table, or use "
            "estimators.leave_one_out."
        )


def _makes_integers(program: Any, is_tainted: list[bool]) -> bool:
    """Whether some operation makes integers from the marked inputs; ``program`` is a jaxpr."""
    tainted = {variable for variable, mark in zip(program.invars, is_tainted, strict=True) if mark}
    for operation in program.eqns:
        marks = [not hasattr(variable, "val") and variable in tainted for variable in operation.invars]
        if not any(marks):
            continue
        inner = list(_programs(operation.params))
        if any(_makes_integers(part, _marks_inside(part, marks, operation.primitive.name)) for part in inner):
            return True
        if not inner and any(jnp.issubdtype(out.aval.dtype, jnp.integer) for out in operation.outvars):
            return True
        tainted.update(operation.outvars)
    return False


def _marks_inside(program: Any, marks: list[bool], name: str) -> list[bool]:
    """Marks of an inner program's inputs, which are the last of the operation's; loops feed theirs back."""
    size = len(program.invars)
    return [True] * size if name in ("scan", "while") or size > len(marks) else marks[len(marks) - size :]


def _programs(params: Any) -> Iterator[Any]:
    """The programs among an operation's parameters: of calls, branches and loops."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield part
