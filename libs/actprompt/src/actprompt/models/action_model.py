"""Action model: one clip feature in the space of the texts, compared with class prompts.

    frames -> frozen tower -> temporal head -> linear --+
    skeleton trajectory ---------------------> linear --+--> sum, normalised --> cosines with class prompts --> logits
    named parameters ------------------------> linear --+
    captions of these -> frozen text tower -------------+

The logits depend on a clip by these cosines alone.

Shapes: B clips, T frames, D width of the space of the texts, C classes, F numbers of a trajectory, P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from actprompt.config import ActConfig
from actprompt.data.dataset import Batch, ClipTensors, Inputs, VideoDataset
from actprompt.data.pose.sources import SkeletonSource
from actprompt.models.class_texts import class_texts
from actprompt.models.visual_branch import Head, VisualBranch
from actprompt.skeleton.captions import Captioner
from actprompt.skeleton.trajectory import TrajectoryEncoder
from icube_common.errors import InputError
from icube_common.io.pretrained import PretrainedModel
from icube_common.losses.logit_scale import MAX_SCALE, scale_of
from icube_common.prompts import ClassTexts, PromptLearner
from icube_common.prompts.ridge_init import CaptionTerm, LinearProjection
from icube_common.tabular import TabularBranch
from icube_common.training import load_backbone
from icube_common.training.calibration import Rejection, no_calibration
from icube_common.vlm import EncoderLike, FrozenVLM


class ActionOutput(NamedTuple):
    """Output of the model for a batch.

    Attributes:
        logits: (B, C).
        sample: (B, D) the clips' features, normalised.
        loss: a term of the tabular branch, where it has one.
    """

    logits: Float[Tensor, "b c"]
    sample: Float[Tensor, "b d"]
    loss: Float[Tensor, ""] | None


class ActionModel(nn.Module, PretrainedModel):
    """Action classifier from frames, skeleton trajectories and named parameters by cosines with class prompts.

    `for_dataset` makes one for a data set, `actprompt.train` trains it, `save_pretrained` writes it, and
    ``from_pretrained(source, head=None, encoder=None, vlm=None)`` reads it.

    Args:
        prompts: of the classes in the order of the logits; they hold the frozen backbone.
        config: what enters.
        labels: the classes as the data set spells them.
        joint_names: joints of the skeletons, empty where these do not enter.
        parameters: names of the P parameters, empty where these do not enter.
        head: a temporal head in place of ``config.visual.head``: a class, called with ``width=D``, or an instance.
        branch: the tabular branch of the fusion modes ``contrastive``, ``memory`` and ``fusion``.

    Attributes:
        encoder: from skeletons to trajectory vectors, fitted by a training; None where they do not enter.
        captioner: from parameters to sentences, fitted by a training; None where these do not enter.
        trust: weight of the clip feature without training.
        calibration: of the probabilities; temperature 1 where none was fitted.
        rejection: threshold below which a clip is of none of the classes; None where none was chosen.
        description: of a trained model: ``data`` (format, title, classes in words), ``trained_on`` (subjects, clips,
            ids), ``warnings``, ``knowledge`` (provenance of the sentences), ``fusion`` (weights of a late fusion).

    Raises:
        InputError: a head that does not fit the backbone.
    """

    checkpoint = "actprompt.models.checkpoint"
    trust: Tensor

    def __init__(
        self,
        prompts: PromptLearner,
        config: ActConfig,
        labels: Sequence[str],
        *,
        joint_names: Sequence[str] = (),
        parameters: Sequence[str] = (),
        head: Head | None = None,
        branch: TabularBranch | None = None,
    ) -> None:
        super().__init__()
        self.prompts = prompts
        self.config = config
        self.labels = tuple(labels)
        self.parameter_names = tuple(parameters)
        vlm, seed = prompts.vlm, config.train.seed
        self.visual = (
            VisualBranch(vlm, config.visual, frames=config.video.frames, seed=seed, head=head, finetune=config.finetune)
            if config.visual.enabled
            else None
        )
        self.encoder: TrajectoryEncoder | None = None
        self.trajectory: LinearProjection | None = None
        if joint_names:
            self.encoder = TrajectoryEncoder.unfitted(joint_names, config.skeleton.frames)
            self.trajectory = LinearProjection(self.encoder.width, vlm.embed_dim)
        self.captioner: Captioner | None = None
        self.parameters_map: LinearProjection | None = None
        self.stated: CaptionTerm | None = None
        if parameters and config.skeleton.fusion_mode == "captions":
            self.parameters_map = LinearProjection(len(parameters), vlm.embed_dim)
            self.stated = CaptionTerm(vlm.embed_dim, weight=config.skeleton.caption_weight)
        self.branch = branch
        self.register_buffer("trust", torch.ones(()))
        self.log_scale = nn.Parameter(vlm.logit_scale.clamp(max=MAX_SCALE).log())
        self.calibration = no_calibration(len(self.labels))
        self.rejection: Rejection | None = None
        self.description: dict[str, Any] = {}
        self._cached: tuple[PromptLearner, Tensor] | None = None

    @classmethod
    def for_dataset(
        cls,
        data: VideoDataset | str | Path,
        config: ActConfig | None = None,
        *,
        head: Head | None = None,
        encoder: EncoderLike | None = None,
        vlm: FrozenVLM | None = None,
    ) -> ActionModel:
        """An untrained model for the classes, joints and parameters of a data set.

        Args:
            data: a data set, or a prepared folder.
            config: all settings.
            head: a temporal head in place of ``config.visual.head``: a class, called with ``width=D``, or an instance
                that maps frame features (B, T, D) to clip features (B, F).
            encoder: an encoder of frames or clips in place of the image tower: a class, called without arguments, or an
                instance (see `icube_common.vlm.Encoder`).
            vlm: the frozen backbone, where it is loaded already.

        Raises:
            InputError: a set without what the configuration uses, a class without description, a head that does not
                fit the backbone.
        """
        config, manifest = config or ActConfig(), VideoDataset.open(data).manifest
        manifest.check_classes()
        joints: Sequence[str] = ()
        names: Sequence[str] = ()
        if config.skeleton.enabled:
            source = SkeletonSource.choose(manifest, config.skeleton.source)
            names = source.parameters().names
            joints = source.joint_names if config.skeleton.trajectory else ()
        texts = class_texts(manifest, config)
        vlm = vlm or load_backbone(config.vlm, config.train, encoder=encoder)
        return cls.for_classes(
            vlm, texts, manifest.class_names, config, joint_names=joints, parameters=names, head=head
        )

    @classmethod
    def for_classes(
        cls,
        vlm: FrozenVLM,
        texts: ClassTexts,
        labels: Sequence[str],
        config: ActConfig,
        *,
        joint_names: Sequence[str] = (),
        parameters: Sequence[str] = (),
        head: Head | None = None,
    ) -> ActionModel:
        """An untrained model for some classes, on the device of the backbone.

        Args:
            vlm: the frozen backbone.
            texts: names and descriptions of at least these classes.
            labels: the classes.
            config: all settings.
            joint_names: as for the class.
            parameters: as for the class.
            head: as for the class.
        """
        prompts = texts.prompts(vlm, labels, replace(config.prompt, seed=config.train.seed))
        model = cls(prompts, config, labels, joint_names=joint_names, parameters=parameters, head=head)
        return model.to(vlm.device)

    @property
    def vlm(self) -> FrozenVLM:
        """The frozen backbone."""
        return self.prompts.vlm

    @property
    def device(self) -> torch.device:
        """Device of the learned parts and of the frozen backbone."""
        return self.log_scale.device

    def batch_size(self, size: int) -> int:
        """Clips of a batch for prediction.

        Args:
            size: clips of a batch of frame features; of pixels for visual prompts and fine-tuning, whose tower takes
                whole clips, as many as hold ``vlm.batch_size`` frames.
        """
        if self.visual is None or self.visual.tower is None:
            return size
        return max(1, min(size, self.vlm.batch_size // self.config.video.frames))

    def clip_tensors(self, ids: Sequence[str], inputs: Inputs, **augmentation: Any) -> ClipTensors:
        """Input tensors of clips by the model's own encoder and captioner.

        Args:
            ids: the clips, in order.
            inputs: of at least these clips.
            augmentation: ``copies``, ``jitter`` and ``seed`` of `ClipTensors.of`.
        """
        return ClipTensors.of(ids, inputs, self.encoder, self.captioner, self.vlm, **augmentation)

    def sample(self, batch: Batch, *, trust: float | None = None) -> Float[Tensor, "b d"]:
        """The clips' features, normalised; ``trust`` replaces the model's own."""
        shares = [share for _, share in self.shares(batch, trust=trust)]
        return F.normalize(torch.stack(shares).sum(0), dim=-1)

    def shares(self, batch: Batch, *, trust: float | None = None) -> list[tuple[str, Float[Tensor, "b d"]]]:
        """Summands of the clips' features by source (image, trajectory, parameters, captions), not normalised."""
        terms = []
        weight = self.trust if trust is None else trust
        if self.visual is not None:
            prior, mapped = self.visual(batch)
            terms.append(("image", weight * prior + mapped))
        if self.trajectory is not None:
            terms.append(("trajectory", self.trajectory(batch["trajectory"])))
        if self.parameters_map is not None:
            terms.append(("parameters", self.parameters_map(batch["parameters"])))
        if self.stated is not None:
            terms.append(("captions of the parameters", weight * self.stated(batch["caption"])))
        return terms

    def forward(self, batch: Batch) -> ActionOutput:
        """Logits of a batch over the classes of the prompts."""
        return self.against(self.prompts, batch)

    def against(
        self, prompts: PromptLearner, batch: Batch, *, class_rows: Int[Tensor, " c"] | None = None
    ) -> ActionOutput:
        """Logits over the classes of other prompts, such as those of classes that were never trained.

        Args:
            prompts: on the same backbone.
            batch: the clips.
            class_rows: the number of each class among the trained ones, -1 for a new class. With any new class the
                clip feature without training counts in full, whatever its weight for the trained classes.
        """
        unseen = class_rows is not None and bool((class_rows < 0).any())
        sample, scale = self.sample(batch, trust=1.0 if unseen else None), scale_of(self.log_scale)
        if self.branch is None:
            return ActionOutput(self._cosines(prompts, sample) * scale, sample, None)
        out = self.branch(sample, prompts(), batch["parameters"], labels=batch.get("label"), class_rows=class_rows)
        return ActionOutput(scale * out.sample @ out.classes.T, out.sample, out.loss)

    def _cosines(self, prompts: PromptLearner, sample: Float[Tensor, "b d"]) -> Float[Tensor, "b c"]:
        """Cosines with the prompts, averaged over the descriptions of a class."""
        fixed = not any(value.requires_grad for value in prompts.parameters())
        predicting = not self.training and not torch.is_grad_enabled()
        if prompts.meta_net is not None or not (fixed or predicting):
            return prompts.logits(sample, scale=1.0)
        # the text tower runs once, not for each batch
        if self._cached is None or self._cached[0] is not prompts:
            with torch.no_grad():
                unit = torch.eye(self.vlm.embed_dim, device=sample.device)
                self._cached = (prompts, prompts.logits(unit, scale=1.0).T.contiguous())
        return sample @ self._cached[1].to(sample).T

    def train(self, mode: bool = True) -> ActionModel:
        """Training mode as of any module; discards cached class features, which may change now."""
        self._cached = None
        return super().train(mode)

    def learned(self) -> dict[str, Tensor]:
        """All tensors but the frozen backbone's and the prompts', which save themselves."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if not name.startswith("prompts.") and ".vlm." not in name
        }


def check_inputs(model: ActionModel, inputs: Inputs) -> None:
    """Compare a set's parameters and joints with those that a model was trained with.

    Raises:
        InputError: they differ.
    """
    names, encoder = model.parameter_names, model.encoder
    if inputs.parameters is not None and inputs.parameters.names != names:
        raise InputError(
            f"the set's named parameters ({len(inputs.parameters.names)}) are not the {len(names)} of the model: "
            "prepare it as the training set was"
        )
    if encoder is not None and inputs.joint_names != encoder.joint_names:
        raise InputError(
            f"the set's skeletons have the joints {', '.join(inputs.joint_names[:4])}..., the model's "
            f"{', '.join(encoder.joint_names[:4])}..."
        )
