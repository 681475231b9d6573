"""
The strings of Python that the zoo's files hold, such as ``dict(net_arch=[400, 300])``.

Read, never run: literals, lists, tuples, dictionaries, ``dict(...)``, signs of numbers, and the
names of `NAMES`. Everything else is refused.
"""

import ast
import math
import warnings
from collections.abc import Iterable
from itertools import product
from pkgutil import resolve_name
from typing import Any

from pyrl_sb3.errors import did_you_mean, short

# The zoo's longest has 120 characters, four levels and 30 nodes.
_LONGEST, _DEEPEST, _MOST_NODES = 2000, 20, 500

_ACTIVATIONS = (
    *("CELU", "ELU", "GELU", "Hardswish", "Hardtanh", "Identity", "LeakyReLU", "LogSigmoid"),
    *("Mish", "PReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softsign", "Tanh"),
)
_OPTIMIZERS = (
    *("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD"),
)
_EXTRACTORS = ("BaseFeaturesExtractor", "CombinedExtractor", "FlattenExtractor", "NatureCNN")
_BUFFERS = ("DictReplayBuffer", "NStepReplayBuffer", "ReplayBuffer")


# What a name in a config stands for; imported when the name is used.
NAMES = {
    "RMSpropTFLike": "stable_baselines3.common.sb2_compat.rmsprop_tf_like:RMSpropTFLike",
    **{
        f"{prefix}nn.{name}": f"torch.nn:{name}"
        for prefix, name in product(("", "th.", "torch."), _ACTIVATIONS)
    },
    **{
        f"{prefix}optim.{name}": f"torch.optim:{name}"
        for prefix, name in product(("", "th.", "torch."), _OPTIMIZERS)
    },
    **{name: f"stable_baselines3.common.torch_layers:{name}" for name in _EXTRACTORS},
    **{name: f"stable_baselines3.common.buffers:{name}" for name in _BUFFERS},
    # A subclass of SB3's, which stays `stable_baselines3.HerReplayBuffer`.
    "HerReplayBuffer": "pyrl_sb3.buffers:HerReplayBuffer",
    "sb3.HerReplayBuffer": "stable_baselines3:HerReplayBuffer",
}


class ExpressionError(ValueError):
    """An expression that is not read; the message names it and the part that is refused."""


def read_expression(text: str) -> Any:
    """
    The value of an expression.

    :raises ExpressionError: for anything but the literals and names above.
    """
    if len(text) > _LONGEST:
        raise ExpressionError(f"{short(text)}: longer than {_LONGEST} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python thinks of its style is of no interest
            tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise ExpressionError(f"{short(text)}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # NUL bytes; too deep for the parser
        raise ExpressionError(f"{short(text)}: {str(error) or 'nested too deeply'}") from None
    return _Reader(text.strip()).value(tree.body)


class _Reader:
    """Turns the nodes of one expression into values."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.nodes = 0

    def value(self, node: ast.expr, depth: int = 1) -> Any:
        self.nodes += 1
        if depth > _DEEPEST or self.nodes > _MOST_NODES:
            raise ExpressionError(f"{short(self.text)}: nested too deeply or too large")
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=number)):
                if type(number) not in (int, float):
                    raise self._refused(node, "only numbers have a sign")
                number = self._constant(node.operand)
                return -number if isinstance(node.op, ast.USub) else number
            case ast.List(elts=elements):
                return [self.value(element, depth + 1) for element in elements]
            case ast.Tuple(elts=elements):
                return tuple(self.value(element, depth + 1) for element in elements)
            case ast.Dict(keys=keys, values=values):
                return self._mapping(node, [self._key(node, key) for key in keys], values, depth)
            case ast.Call():
                return self._call(node, depth)
            case ast.Name() | ast.Attribute():
                return self._name(node)
        raise self._refused(node, "only literals, dict(...) and names of classes are read")

    def _constant(self, node: Any) -> Any:
        value = node.value
        if value is not None and type(value) not in (bool, int, float, str):
            raise self._refused(node, f"{type(value).__name__} is no value of a config")
        if isinstance(value, float) and not math.isfinite(value):
            raise self._refused(node, "not a finite number")
        return value

    def _key(self, node: ast.Dict, key: ast.expr | None) -> Any:
        if not isinstance(key, ast.Constant):
            raise self._refused(key or node, "a key must be written out")
        return self._constant(key)

    def _mapping(
        self, node: ast.expr, keys: list[Any], values: Iterable[ast.expr], depth: int
    ) -> dict[Any, Any]:
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise self._refused(node, f"{short(twice)} is given twice")
        read = (self.value(value, depth + 1) for value in values)
        return dict(zip(keys, read, strict=True))

    def _call(self, node: ast.Call, depth: int) -> dict[Any, Any]:
        if not (isinstance(node.func, ast.Name) and node.func.id == "dict"):
            raise self._refused(node, "only dict(...) may be called")
        names = [keyword.arg for keyword in node.keywords]
        if node.args or None in names:
            raise self._refused(node, "dict takes only name=value here")
        return self._mapping(node, names, [keyword.value for keyword in node.keywords], depth)

    def _name(self, node: ast.expr) -> Any:
        name = _dotted(node)
        if name in NAMES:
            return resolve_name(NAMES[name])
        raise self._refused(
            node, f"not a name that configs may use{did_you_mean(name or '', NAMES)}"
        )

    def _refused(self, node: ast.expr, why: str) -> ExpressionError:
        part = ast.get_source_segment(self.text, node) or self.text
        where = "" if part == self.text else f"{short(part)} in "
        return ExpressionError(f"{where}{short(self.text)}: {why}")


def _dotted(node: ast.expr) -> str | None:
    """`"nn.ReLU"` of the nodes of ``nn.ReLU``; None when there is more than names and dots."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None
