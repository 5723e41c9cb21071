"""One micro-batch of a decoder, product by product: how large each is, and how often the backward pass repeats it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ..environment import versions
from ..errors import RecipeError
from ..methods import Full, LoRA, Peft
from .decoder import Decoder, decoder_of
from .layers import layer_of
from .lora_config import lora_of
from .parameters import ModuleForm, parameter_form

if TYPE_CHECKING:
    from torch import nn

    from ..methods import Method
    from .layers import Layer

# Settings of peft 0.21.2 under which an adapter computes something else than B A x.
OTHER_PRODUCTS = ("alora_invocation_tokens", "target_parameters", "velora_config")


class MicroBatch:
    """Counts by part while it goes through a decoder in the order of the forward pass.

    What its methods take and return in place of a tensor is whether that tensor's gradient is needed.
    """

    def __init__(
        self, model: nn.Module, method: Method, rows: int, length: int, checkpointing: bool, fused_attention: bool
    ) -> None:
        self.decoder = decoder_of(model)
        self.model, self.lora = model, _lora(method)
        self.uses_dora = self.lora is not None and self.lora.use_dora
        self.modules = _declared(model, method, self.decoder)
        self.rows, self.length = rows, length
        self.checkpointing, self.fused_attention = checkpointing, fused_attention
        self.forward: Counter[str] = Counter()
        self.backward: Counter[str] = Counter()

    def whole_model(self) -> None:
        """Embeddings, blocks, the final norm and the head."""
        embedded = [self.embedding(name) for name in self.decoder.embeddings]
        x = any(embedded) or self.checkpointing
        self.angles()
        blocks: Any = self.model.get_submodule(self.decoder.blocks)
        for index in range(len(blocks)):
            x = self.block(f"{self.decoder.blocks}.{index}.", x)
        self.linear(self.decoder.head, x or self.trains(self.decoder.final_norm), "head")

    def block(self, block: str, x: bool) -> bool:
        """Attention and MLP; under checkpointing, once more. That each is added to the residual stream changes nothing:
        where their input needs a gradient, so does their output.
        """
        before = self.forward.total()
        x = self.mlp(block, self.self_attention(block, x))
        if self.checkpointing:
            self.backward["recomputed"] += self.forward.total() - before - self.not_recomputed(block)
        return x

    def self_attention(self, block: str, x: bool) -> bool:
        part = self.decoder
        x = x or self.trains(block + part.attention_norm)
        made = {name: self.linear(block + name, x) for name in part.projections}
        queries = made[part.queries] or self.trains(block + part.queries_norm)
        keys = made[part.keys] or self.trains(block + part.keys_norm)
        width = self.layer(block + part.attention_output).inputs
        attended = self.attention(width, queries, keys, made[part.values])
        return self.linear(block + part.attention_output, attended)

    def mlp(self, block: str, x: bool) -> bool:
        x = x or self.trains(block + self.decoder.mlp_norm)
        inner = [self.linear(block + name, x) for name in self.decoder.up]
        return self.linear(block + self.decoder.down, any(inner))

    def linear(self, name: str, x: bool, part: str = "layers") -> bool:
        """Y = X W: dX where ``x`` needs it, dW where W trains."""
        layer, form = self.layer(name), self.form(name)
        # An adapter leaves the weight frozen; elsewhere what trains, if more than the bias, is the weight or its copy.
        weight_trains = not form.rank and form.trainable > form.bias
        self.count(part, self.product(layer.inputs, layer.outputs), x + weight_trains)
        if form.rank:
            self.adapter(layer, form.rank, x)
        return x or form.trainable > 0

    def adapter(self, layer: Layer, rank: int, x: bool) -> None:
        """(X A) B: dA, dB and the gradient of X A are always needed, dX where ``x`` is."""
        self.count("adapters", self.product(layer.inputs, rank), 1 + x)
        self.count("adapters", self.product(rank, layer.outputs), 2)
        if self.uses_dora:
            # DoRA (Liu et al. 2024, arXiv 2402.09353) divides by the norm of W + A B, through which no gradient flows
            # (section 4.3); PEFT makes A B by sending an identity matrix through both.
            self.count("adapters", 2 * layer.inputs * rank * (layer.inputs + layer.outputs), 0)
            if self.lora is not None and self.lora.dropout:
                # The dropped-out X goes through W, too; of a Conv1D's, PEFT makes a new parameter, and so a dW for it.
                self.count("adapters", self.product(layer.inputs, layer.outputs), x + (layer.kind == "Conv1D"))

    def attention(self, width: int, queries: bool, keys: bool, values: bool) -> bool:
        """S = Q Kᵀ and P V are 2 B s² w each, for a width w = heads · head size; not halved by a causal mask.

        A fused kernel computes S again and all of dP, dV, dQ and dK, so 2.5 times the forward pass, whichever of them
        are needed (Dao et al. 2022, arXiv 2205.14135). Plain products are done where they are needed.
        """
        product = 2 * self.rows * self.length**2 * width
        scores = queries or keys
        if self.fused_attention:
            self.count("attention", 2 * product, 0)
            self.backward["attention"] += 5 * product * (scores or values)
        else:
            self.count("attention", product, queries + keys)
            self.count("attention", product, scores + values)
        return scores or values

    def not_recomputed(self, block: str) -> int:
        """The block's last product, or 0. Recomputation ends once every tensor that autograd had saved is there again
        (``torch.utils.checkpoint.set_checkpoint_early_stop``). A product saves its operands; its own result is made
        again only where something behind it saves more: a dropout its mask, DoRA what it scales.
        """
        name, dropout = block + self.decoder.down, self.decoder.dropout
        layer, rank = self.layer(name), self.form(name).rank
        if (dropout and self.drops_out(block + dropout)) or (rank and self.uses_dora):
            return 0
        return self.product(rank or layer.inputs, layer.outputs)

    def embedding(self, name: str) -> bool:
        """Looking rows up is no product; an adapter on an embedding looks A up, and multiplies by B."""
        rank = self.form(name).rank
        if rank and self.uses_dora:
            raise RecipeError(
                f"FLOPs: no closed form for DoRA on an embedding ({name}); allowed: LoRA there, or DoRA elsewhere"
            )
        if rank:
            self.count("adapters", self.product(rank, self.layer(name).outputs), 2)
        return self.trains(name)

    def angles(self) -> None:
        """Rotary embeddings (Su et al. 2021, arXiv 2104.09864) turn by position times frequency; older releases of
        transformers write that as a product of matrices, once for all rows.
        """
        installed = tuple(int(number) for number in versions()["transformers"].split(".")[:2])
        if self.decoder.rotary and installed < self.decoder.elementwise_angles:
            rotary: Any = self.model.get_submodule(self.decoder.rotary)
            self.count("angles", 2 * self.length * rotary.inv_freq.numel(), 0)

    def product(self, inputs: int, outputs: int) -> int:
        """One product of all tokens with a matrix; a multiply-add is 2."""
        return 2 * self.rows * self.length * inputs * outputs

    def count(self, part: str, product: int, gradients: int) -> None:
        """A product, and one of its size in the backward pass for each gradient that is needed."""
        self.forward[part] += product
        self.backward[part] += gradients * product

    def form(self, name: str) -> ModuleForm:
        """What the module declares; one that is not there, or has no parameters of its own, trains none."""
        return self.modules.get(name, ModuleForm(name, 0, 0))

    def trains(self, name: str) -> bool:
        return self.form(name).trainable > 0

    def layer(self, name: str) -> Layer:
        layer = layer_of(self.model.get_submodule(name))
        assert layer is not None
        return layer

    def drops_out(self, name: str) -> bool:
        dropout: Any = self.model.get_submodule(name)
        return bool(dropout.p)


def _lora(method: Method) -> LoRA | None:
    if isinstance(method, (Full, LoRA)):
        return None if isinstance(method, Full) else method
    return lora_of(method.config)


def _declared(model: nn.Module, method: Method, decoder: Decoder) -> dict[str, ModuleForm]:
    """Module name -> what it trains. Raises RecipeError for an adapter that computes something else than B A x."""
    form = None if _has_other_products(method) else parameter_form(model, method)
    if form is None:
        raise RecipeError(f"FLOPs: no closed form for {method.label}; allowed: Full(...), and LoRA or DoRA adapters")
    modules = {module.name: module for module in form.modules}
    if isinstance(method, Full):
        # A head that is tied to the embedding trains with it; where an adapter trains a copy of one, the other stays.
        modules.setdefault(decoder.head, modules[decoder.embeddings[0]])
    return modules


def _has_other_products(method: Method) -> bool:
    if isinstance(method, Peft):
        is_lora = lora_of(method.config) is not None
        return not is_lora or any(getattr(method.config, name, None) for name in OTHER_PRODUCTS)
    return isinstance(method, LoRA) and any(method.options.get(name) for name in OTHER_PRODUCTS)
