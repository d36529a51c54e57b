"""Learnable class prompts in front of a frozen text tower.

CoOp (Zhou et al., IJCV 2022), CoCoOp (Zhou et al., CVPR 2022), KgCoOp (Yao et al., CVPR 2023), KAPT (Kan et al., ICCV
2023), and prompts that start as whole class descriptions (GaVA-CLIP, MICCAI 2024), on any text tower of open_clip.

C classes, N prompts (one for each class, or one for each description), L token ids, W width of a token embedding,
D width of the shared space, B images.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from icube_common.config import as_list
from icube_common.errors import InputError
from icube_common.io.runs import atomic_folder, read_json, write_json
from icube_common.prompts.chunks import FEW, chunk_size, saved_bytes
from icube_common.prompts.config import PromptConfig
from icube_common.prompts.context_nets import MetaNet, Shift
from icube_common.prompts.features import class_means, unit_means
from icube_common.prompts.initialise import plan_prompts
from icube_common.prompts.layout import columns_needed, columns_shared, lay_out
from icube_common.vlm.backbone import FrozenVLM
from icube_common.vlm.checkpoints.fingerprint import name_difference, warn_other_versions
from icube_common.vlm.text_encoder import trim_padding

logger = logging.getLogger(__name__)

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
# whole sentences in the tower at once, without a backward pass
_TEXTS = 256


class Descriptions(Protocol):
    """Source of the sentences of a class, such as `icube_common.knowledge.ClassKnowledge`."""

    def texts(self, class_name: str) -> str | Sequence[str]:
        """The accepted sentences of a class."""


class PromptLearner(nn.Module):
    """Class features from learnable prompts. Only what is learned beside the frozen model is saved.

    Args:
        vlm: the frozen model; it is referred to and moves along, but is neither trained nor saved.
        class_names: in the order of the logits.
        init: what the context starts as: ``template``, ``descriptions``, ``knowledge`` or ``random``.
        knowledge: the class descriptions, for ``init="descriptions"`` and ``"knowledge"``; a string is one sentence.
        knowledge_embeddings: ``(C, E)`` what ``init="knowledge"`` projects into the context; by default the mean
            feature of each class's descriptions.
        options: further keys of `PromptConfig`, such as ``template`` (words around the class name, whose place is
            ``{}``; a list is an ensemble), ``num_context``, ``class_token``, ``conditional`` and ``meta_net``.

    Attributes:
        warnings: what the user should know about the initialisation; every report repeats them.
        texts: for each prompt the sentence that it started as.
        owner: ``(N,)`` the class of each prompt.

    Raises:
        InputError: fewer than one class, a name twice, a class without description, a prompt that is too long.
    """

    ids: Tensor
    slots: Tensor
    owner: Tensor
    knowledge_embeddings: Tensor | None

    def __init__(
        self,
        vlm: FrozenVLM,
        class_names: str | Sequence[str],
        init: str = "template",
        *,
        knowledge: Descriptions | Mapping[str, str | Sequence[str]] | None = None,
        knowledge_embeddings: Float[Tensor, "c e"] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        options["num_context"] = str(options.get("num_context", "auto"))
        self.config = config = PromptConfig(init=init, **options)
        self.vlm = vlm
        self.class_names = as_list(class_names)
        if not self.class_names:
            raise InputError("class names: at least one is needed")
        if twice := [name for number, name in enumerate(self.class_names) if name in self.class_names[:number]]:
            raise InputError(f"class names: {twice[0]!r} is there twice; at least one is needed, and none twice")
        self.descriptions = _read_descriptions(knowledge, self.class_names)
        plan = plan_prompts(vlm, self.class_names, config, self.descriptions)
        self.texts, self.warnings = plan.texts, plan.warnings
        for note in plan.warnings:
            logger.warning("%s", note)
        layout = lay_out(plan.prompts, vlm.tokens)
        columns = layout.ids.shape[1]
        if config.cut_padding and vlm.padding_cuttable:
            columns = trim_padding(layout.ids).shape[1]
            columns = columns_needed(layout.ids, vlm.tokens.pad) if config.compact else columns
        self.register_buffer("ids", layout.ids[:, :columns].to(vlm.device), persistent=False)
        self.register_buffer("slots", layout.slots[:, :columns].to(vlm.device), persistent=False)
        self.register_buffer("owner", layout.owner.to(vlm.device), persistent=False)
        self._shared = 0
        if config.compact and vlm.causal:
            self._shared = columns_shared(self.ids, self.slots, shifted=init == "knowledge")
        start = plan.vectors(vlm, seed=config.seed).to(vlm.device)
        # a template that is the name alone has no vector
        if not start.numel() and (config.conditional or init == "knowledge"):
            what = "conditional=true" if config.conditional else "init=knowledge"
            raise InputError(f"template={config.template!r}: has no word beside the class name that {what} could shift")
        self.context = nn.Parameter(start, requires_grad=config.learn and start.numel() > 0)
        self._prompt_bytes: int | None = None

        norm = float(vlm.token_embedding.weight.detach().float().norm(dim=1).mean())
        self.register_buffer("knowledge_embeddings", None, persistent=False)
        self.project_knowledge: Shift | None = None
        if init == "knowledge":
            embeddings = self._knowledge_embeddings() if knowledge_embeddings is None else knowledge_embeddings
            if len(embeddings) != len(self.class_names):
                raise InputError(f"knowledge_embeddings: {len(embeddings)} rows for {len(self.class_names)} classes")
            # a copy of its own: a tensor mapped from a file is not aligned, and sums come out in another order
            self.knowledge_embeddings = embeddings.detach().float().clone().to(vlm.device)
            width = embeddings.shape[1]
            self.project_knowledge = Shift(
                width, vlm.token_width, token_norm=norm, hidden=min(width, 256), seed=config.seed
            ).to(vlm.device)
        elif knowledge_embeddings is not None:
            raise InputError(f"knowledge_embeddings: have no place with init={init}; use init=knowledge")
        self.meta_net: MetaNet | Shift | None = None
        if config.conditional and config.meta_net == "free":
            self.meta_net = MetaNet(vlm.embed_dim, vlm.token_width, seed=config.seed).to(vlm.device)
        elif config.conditional:
            # CoCoOp's bottleneck of a sixteenth
            hidden = max(8, vlm.embed_dim // 16)
            self.meta_net = Shift(vlm.embed_dim, vlm.token_width, token_norm=norm, hidden=hidden, seed=config.seed).to(
                vlm.device
            )

    @classmethod
    def from_config(
        cls,
        vlm: FrozenVLM,
        class_names: Sequence[str],
        config: PromptConfig,
        *,
        knowledge: Descriptions | Mapping[str, str | Sequence[str]] | None = None,
        knowledge_embeddings: Float[Tensor, "c e"] | None = None,
    ) -> PromptLearner:
        """The learner that a configuration section describes; raises as the constructor does."""
        return cls(
            vlm,
            class_names,
            **dataclasses.asdict(config),
            knowledge=knowledge,
            knowledge_embeddings=knowledge_embeddings,
        )

    def forward(
        self, image_feature: Float[Tensor, " d"] | None = None, *, per_description: bool = False
    ) -> Float[Tensor, "c d"]:
        """Class features, float32, differentiable in all that is learned.

        Their product with an image feature is what `logits` scales: of length 1 where a class has one prompt or an
        ensemble of templates, shorter where it has several descriptions (`class_features`).

        Args:
            image_feature: of one image, for conditional prompts; without it they are not shifted.
            per_description: the ``(N, D)`` features of all prompts instead, whose classes are `owner`.
        """
        features = self._features(image_feature)
        return features if per_description else self.class_features(features)

    def logits(
        self, image_features: Float[Tensor, "b d"], *, scale: float | Tensor | None = None
    ) -> Float[Tensor, "b c"]:
        """Scaled cosine similarities, averaged over the descriptions of each class: products with what `forward` gives.

        Args:
            image_features: normalised.
            scale: factor on the similarities, by default the one that the frozen model was trained with; SigLIP's bias
                is the same for all classes and left away.
        """
        scale = self.vlm.logit_scale if scale is None else scale
        if self.meta_net is None:
            return scale * image_features @ self.class_features(self._features(None)).T
        count = len(image_features) if torch.is_grad_enabled() else 1
        rows = [self.class_features(self._features(feature, count)) @ feature for feature in image_features]
        return scale * torch.stack(rows)

    def class_features(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "c d"]:
        """The features of classes from those of all their prompts, as `forward` and `logits` have them.

        The mean over the descriptions of a class, not normalised: its product with an image is the mean of their
        cosines. Of an ensemble of templates the normalised mean.
        """
        return class_means(self.shares(features), self.owner.to(features.device), len(self.class_names))

    def shares(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Summand of each prompt in the feature of its class, which is the mean of these."""
        if len(self.config.templates) == 1 or self.config.init != "template":
            return features
        return unit_means(features, self.owner.to(features.device), len(self.class_names))

    def reference_features(self) -> Float[Tensor, "n d"]:
        """Frozen features of the sentences that the prompts started as, normalised: what KgCoOp holds them near to."""
        return self._encode_texts(self.texts)

    def nearest_words(self, count: int = 1) -> list[list[tuple[str, float]]]:
        """For each context vector the ``count`` nearest vocabulary entries and their Euclidean distances."""
        table = self.vlm.token_embedding.weight.detach().float()
        distances = torch.cdist(self.context.detach().float(), table)
        result, numbers = distances.topk(count, largest=False)
        decode = self.vlm.tokens.decode
        return [
            [(decode([number]), distance) for number, distance in zip(row, gaps, strict=True)]
            for row, gaps in zip(numbers.tolist(), result.tolist(), strict=True)
        ]

    def _features(self, image_feature: Tensor | None, graphs: int = 1) -> Float[Tensor, "n d"]:
        """Features of all prompts; ``graphs``: number of forward passes before a backward pass."""
        vectors = self.context
        shifts: Tensor | None = None
        if self.project_knowledge is not None:
            assert self.knowledge_embeddings is not None
            shifts = self.project_knowledge(self.knowledge_embeddings)[self.owner]
        if image_feature is not None:
            if self.meta_net is None:
                raise ValueError("an image feature was given to prompts that are not conditional")
            shift = self.meta_net(image_feature)
            shifts = shift.expand(len(self.ids), -1) if shifts is None else shifts + shift
        chunk = self._chunk(shifts, graphs)
        if chunk is None:
            return self._encode(vectors, shifts, self.ids, self.slots)
        parts = []
        for start in range(0, len(self.ids), chunk):
            rows = slice(start, start + chunk)
            inputs = (vectors, None if shifts is None else shifts[rows], self.ids[rows], self.slots[rows])
            parts.append(checkpoint(self._encode, *inputs, use_reentrant=False, preserve_rng_state=False))
        return torch.cat(parts)

    def _chunk(self, shifts: Float[Tensor, "n w"] | None, graphs: int) -> int | None:
        """Prompts of a chunk; None: all at once, their activations kept for the backward pass."""
        count = len(self.ids)
        if self.config.chunk:
            return self.config.chunk if self.config.chunk < count else None
        if count * graphs <= FEW:
            return None
        if self._prompt_bytes is None:
            vectors = self.context.detach().requires_grad_()
            one = None if shifts is None else shifts[:1].detach()
            self._prompt_bytes = saved_bytes(
                lambda: self._encode(vectors, one, self.ids[:1], self.slots[:1]), self.vlm.parameters()
            )
        return chunk_size(count, graphs, self._prompt_bytes)

    def _encode(
        self,
        vectors: Float[Tensor, "v w"],
        shifts: Float[Tensor, "n w"] | None,
        ids: Int[Tensor, "n l"],
        slots: Int[Tensor, "n l"],
    ) -> Float[Tensor, "n d"]:
        if not len(vectors):
            return F.normalize(self.vlm.encode_ids(ids, shared=self._shared), dim=-1)
        embeddings = vectors[slots.clamp(min=0)]
        if shifts is not None:
            embeddings = embeddings + rearrange(shifts, "n w -> n 1 w")
        return F.normalize(self.vlm.encode_ids(ids, embeddings, slots >= 0, shared=self._shared), dim=-1)

    def _knowledge_embeddings(self) -> Float[Tensor, "c d"]:
        assert self.descriptions is not None
        return torch.stack([self._encode_texts(self.descriptions[name]).mean(0) for name in self.class_names])

    @torch.no_grad()
    def _encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Features of whole sentences, a few hundred of them at once."""
        return torch.cat([self.vlm.encode_text(texts[at : at + _TEXTS]) for at in range(0, len(texts), _TEXTS)])

    def learned(self) -> dict[str, Tensor]:
        """Trainable tensors: the context and the small networks, without the frozen model."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("vlm.")}

    def save_pretrained(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write what was learned and the layout: ``config.json`` and ``model.safetensors``.

        Raises:
            InputError: the folder exists and ``overwrite`` is False.
        """
        with atomic_folder(folder, overwrite=overwrite) as temporary:
            tensors = {name: value.detach().cpu().contiguous() for name, value in self.learned().items()}
            if self.knowledge_embeddings is not None:
                tensors["knowledge_embeddings"] = self.knowledge_embeddings.cpu().contiguous()
            save_file(tensors, temporary / _WEIGHTS, {"format": "pt"})
            write_json(
                temporary / _CONFIG,
                {
                    "class_names": self.class_names,
                    "prompts": dataclasses.asdict(self.config),
                    "descriptions": self.descriptions,
                    "backbone": self.vlm.describe(),
                    "ids": self.ids.tolist(),
                    "warnings": self.warnings,
                },
            )

    @classmethod
    def from_pretrained(cls, folder: str | Path, vlm: FrozenVLM) -> PromptLearner:
        """Load what `save_pretrained` wrote.

        Args:
            folder: written by `save_pretrained`.
            vlm: the same frozen model.

        Raises:
            InputError: no such folder or not one of these; another backbone than the prompts were learned on.
        """
        folder = Path(folder)
        saved = read_json(folder / _CONFIG)
        try:
            recorded: Mapping[str, Any] = saved["backbone"]
            if recorded["fingerprint"] != vlm.fingerprint:
                raise InputError(
                    f"{folder}: the prompts were learned on {recorded['description']}, fingerprint "
                    f"{recorded['fingerprint'][:12]}; this is {vlm.origin}, fingerprint {vlm.fingerprint[:12]}"
                    f"{name_difference(recorded, vlm)}"
                )
            warn_other_versions(folder, recorded, vlm)
            tensors = load_file(folder / _WEIGHTS)
            embeddings = tensors.pop("knowledge_embeddings", None)
            learner = cls.from_config(
                vlm,
                saved["class_names"],
                PromptConfig(**saved["prompts"]),
                knowledge=saved["descriptions"],
                knowledge_embeddings=embeddings,
            )
            if learner.ids.tolist() != saved["ids"]:
                raise InputError(f"{folder}: this tokenizer lays the prompts out in another way than the saved one did")
            missing = learner.learned().keys() ^ tensors.keys()
            if missing:
                raise InputError(f"{folder / _WEIGHTS}: missing or unknown tensors {sorted(missing)}")
            learner.load_state_dict(tensors, strict=False)
        except (KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
            raise InputError(f"{folder}: is no folder of saved prompts, or a damaged one ({error})") from error
        return learner


def _read_descriptions(
    knowledge: Descriptions | Mapping[str, str | Sequence[str]] | None, class_names: Sequence[str]
) -> dict[str, list[str]] | None:
    if knowledge is None:
        return None
    find = (lambda name: knowledge.get(name, ())) if isinstance(knowledge, Mapping) else knowledge.texts
    return {name: as_list(find(name)) for name in class_names}
