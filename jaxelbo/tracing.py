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
    if _walk(program, [True] * len(program.invars))[0]:
        raise TypeError(
            "log_joint turns the relaxed latent into integers (an index, argmax, astype(int), ...), through which no "
            "gradient flows; write it as arithmetic in the latent, such as latent @ table, or use "
            "estimators.leave_one_out."
        )


def _walk(program: Any, marks: list[bool]) -> tuple[bool, list[bool]]:
    """Whether some operation makes integers from the marked inputs of a jaxpr, and which outputs depend on them."""
    marked = {variable for variable, mark in zip(program.invars, marks, strict=True) if mark}

    def is_marked(variable: Any) -> bool:
        return not hasattr(variable, "val") and variable in marked

    for operation in program.eqns:
        inputs = [is_marked(variable) for variable in operation.invars]
        if not any(inputs):
            continue
        found, outputs = _through(operation, inputs)
        if found:
            return True, outputs
        marked.update(variable for variable, mark in zip(operation.outvars, outputs, strict=True) if mark)
    return False, [is_marked(variable) for variable in program.outvars]


def _through(operation: Any, inputs: list[bool]) -> tuple[bool, list[bool]]:
    """As `_walk`, for one operation of a program."""
    name, params = operation.primitive.name, operation.params
    if name == "scan":
        body = getattr(params["jaxpr"], "jaxpr", params["jaxpr"])
        # Inputs are constants, carry and rows, outputs carry and rows; those that are rows have an axis more outside.
        num_rows = _num_different(operation.invars, body.invars)
        num_carry = len(body.outvars) - _num_different(operation.outvars, body.outvars)
        num_fixed = len(inputs) - num_rows - num_carry
        return _loop(body, inputs[:num_fixed], inputs[num_fixed:], num_carry)
    if name == "while":
        of_condition, of_body = params["cond_nconsts"], params["body_nconsts"]
        condition, body = (getattr(params[of], "jaxpr", params[of]) for of in ("cond_jaxpr", "body_jaxpr"))
        carry = inputs[of_condition + of_body :]
        found, carry = _loop(body, inputs[of_condition : of_condition + of_body], carry, len(carry))
        return found or _walk(condition, inputs[:of_condition] + carry)[0], carry
    is_integer = [jnp.issubdtype(out.aval.dtype, jnp.integer) for out in operation.outvars]
    inner = list(_programs(params))
    if not inner:
        if name == "lu":  # its pivots reorder rows; no value is lost in them
            return False, [not mark for mark in is_integer]
        return any(is_integer), [True] * len(is_integer)
    results = [
        _walk(part, inputs[len(inputs) - len(part.invars) :]) for part in inner if len(part.invars) <= len(inputs)
    ]
    outputs = [any(column) for column in zip(*(marks for _, marks in results), strict=True)]
    return any(found for found, _ in results), outputs if len(outputs) == len(is_integer) else [True] * len(is_integer)


def _num_different(outside: Any, inside: Any) -> int:
    return sum(one.aval.shape != other.aval.shape for one, other in zip(outside, inside, strict=True))


def _loop(body: Any, fixed: list[bool], given: list[bool], num_carry: int) -> tuple[bool, list[bool]]:
    """As `_walk`, for a body whose first outputs are fed back; what is marked once stays so."""
    while True:
        found, outputs = _walk(body, fixed + given)
        fed_back = [old or new for old, new in zip(given[:num_carry], outputs, strict=False)]
        if found or fed_back == given[:num_carry]:
            return found, fed_back + outputs[num_carry:]
        given = fed_back + given[num_carry:]


def _programs(params: Any) -> Iterator[Any]:
    """The programs among an operation's parameters: of calls, branches and loops."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield part
