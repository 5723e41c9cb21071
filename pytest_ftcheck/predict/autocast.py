"""Autocast on the fake GPU: which operations run in half precision, and which of its casts are kept.

The rules are CUDA's (ATen/autocast_mode.h, which torch ships; https://docs.pytorch.org/docs/stable/amp.html), put into
the dispatcher for torch's private backend, before autograd: what an operation keeps for the backward pass is its cast
input. Only a parameter that is trained is cast once and kept until the outermost autocast ends; a frozen weight is cast
again at each use, and each of those casts is kept by autograd for as long as it needs it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from .device import FakeDevice, is_gpu

KEY = "AutocastPrivateUse1"
# All inputs in half precision.
HALF = """
_convolution convolution conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d.input conv_transpose3d.input
prelu addmm addmv addr matmul einsum mm mv linalg_vecdot linear addbmm baddbmm bmm chain_matmul linalg_multi_dot
_thnn_fused_lstm_cell _thnn_fused_gru_cell lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
_scaled_dot_product_flash_attention scaled_dot_product_attention
"""
# All inputs in float32.
FLOAT32 = """
acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow.Tensor_Scalar pow.Tensor_Tensor
pow.Scalar softplus layer_norm native_layer_norm rms_norm group_norm frobenius_norm.dim nuclear_norm nuclear_norm.dim
cosine_similarity poisson_nll_loss cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div l1_loss
smooth_l1_loss huber_loss mse_loss margin_ranking_loss multilabel_margin_loss soft_margin_loss triplet_margin_loss
multi_margin_loss binary_cross_entropy_with_logits dist pdist cdist renorm logsumexp upsample_nearest1d
_upsample_nearest_exact1d upsample_nearest2d _upsample_nearest_exact2d upsample_nearest3d _upsample_nearest_exact3d
upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa upsample_trilinear3d upsample_bicubic2d
_upsample_bicubic2d_aa
"""
# The result in float32, where none is asked for.
FLOAT32_RESULT = """
prod prod.dim_int softmax.int log_softmax.int cumprod cumsum linalg_vector_norm linalg_matrix_norm
linalg_matrix_norm.str_ord sum sum.dim_IntList
"""
# The same, of an operation whose form with a dtype is another.
FLOAT32_FORM = {"norm.Scalar": "norm.ScalarOpt_dtype", "norm.ScalarOpt_dim": "norm.ScalarOpt_dim_dtype"}
# All inputs in the widest dtype of any.
WIDEST = """
addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add
"""


def route_autocast(device: FakeDevice) -> list[object]:
    """Give the fake GPU CUDA's autocast rules. What is returned must be kept: with it they end."""
    casts = Casts(device.type)
    elsewhere = torch.library.Library("_", "IMPL")  # type: ignore[no-untyped-call]
    elsewhere.fallback(torch.library.fallthrough_kernel, KEY)  # type: ignore[no-untyped-call]
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    policies = (
        (HALF, casts.half),
        (FLOAT32, casts.float32),
        (FLOAT32_RESULT, casts.float32_result),
        (WIDEST, casts.widest),
    )
    for names, policy in policies:
        for name in names.split():
            operation = _operation(name)
            if operation is not None:
                library.impl(name, _outside_autocast(policy, operation), KEY)  # type: ignore[no-untyped-call]
    for name, form in FLOAT32_FORM.items():
        kernel = _outside_autocast(casts.float32_form, _operation(form))
        library.impl(name, kernel, KEY)  # type: ignore[no-untyped-call]
    library.impl("binary_cross_entropy", _unsafe, KEY)  # type: ignore[no-untyped-call]
    _clear_with_torch(casts)
    return [elsewhere, library]


class Casts:
    """How inputs are cast, and the casts that are kept. Only tensors on the fake GPU are cast, and never float64."""

    def __init__(self, device_type: str) -> None:
        self.device_type = device_type
        # The id of a parameter -> itself, so that the id stays its own, and its cast.
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def half(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``operation`` on inputs in autocast's dtype."""
        return self._cast_to(torch.get_autocast_dtype(self.device_type), operation, args, kwargs)

    def float32(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``operation`` on inputs in float32."""
        return self._cast_to(torch.float32, operation, args, kwargs)

    def widest(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``operation`` on inputs in float32 where any has it, in autocast's dtype otherwise."""
        dtypes = {leaf.dtype for leaf in tree_leaves((args, kwargs)) if self._concerns(leaf)}
        wide = torch.float32 in dtypes
        return self._cast_to(
            torch.float32 if wide else torch.get_autocast_dtype(self.device_type), operation, args, kwargs
        )

    def float32_result(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``operation`` asked for a result in float32, where no dtype is asked for."""
        names = [argument.name for argument in operation._schema.arguments]
        bound = {**dict(zip(names, args, strict=False)), **kwargs}
        if self._concerns(args[0]) and bound.get("dtype") is None:
            bound["dtype"] = torch.float32
        return operation(**bound)

    def float32_form(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``operation``, which takes a dtype, for one that does not."""
        dtype = torch.float32 if self._concerns(args[0]) else args[0].dtype
        return operation(*args, **kwargs, dtype=dtype)

    def _cast_to(self, dtype: torch.dtype, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        cast = functools.partial(self._cast, dtype=dtype)
        cast_args, cast_kwargs = tree_map(cast, (args, kwargs))
        return operation(*cast_args, **cast_kwargs)

    def _cast(self, leaf: Any, dtype: torch.dtype) -> Any:
        if not self._concerns(leaf) or leaf.dtype == dtype:
            return leaf
        trained = leaf.is_leaf and leaf.requires_grad and leaf._base is None
        keeps = dtype == torch.get_autocast_dtype(self.device_type) and torch.is_autocast_cache_enabled()
        if not (trained and keeps and leaf.dtype == torch.float32):
            return leaf.to(dtype)
        if id(leaf) not in self.kept:
            self.kept[id(leaf)] = leaf, leaf.to(dtype)
        return self.kept[id(leaf)][1]

    def _concerns(self, leaf: Any) -> bool:
        if not isinstance(leaf, Tensor) or not is_gpu(leaf.device):
            return False
        return leaf.is_floating_point() and leaf.dtype != torch.float64


Policy = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]


def _operation(name: str) -> Any:
    """The operation of this name; None where this torch does not have it."""
    packet = getattr(torch.ops.aten, name.partition(".")[0], None)
    return getattr(packet, name.partition(".")[2] or "default", None)


def _outside_autocast(policy: Policy, operation: Any) -> Callable[..., Any]:
    """The kernel of ``operation`` under autocast: what it calls in turn is not cast again."""
    excluded = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, KEY))

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(excluded):
            return policy(operation, args, kwargs)

    return kernel


def _unsafe(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("binary_cross_entropy is unsafe to autocast: use binary_cross_entropy_with_logits")


def _clear_with_torch(casts: Casts) -> None:
    """Drop the casts that are kept when torch drops its own: where the outermost autocast ends."""
    original = torch.clear_autocast_cache

    def clear_autocast_cache() -> None:
        casts.kept.clear()
        original()

    torch.clear_autocast_cache = clear_autocast_cache
