"""The model: the logit of a class is a sum of named contributions, whatever the configuration.

    logit_c = bias_c + sum_k A[c, k] s_k                            measured signs       (debian_mri.biomarkers.head)
                     + trust * scale * mean_j cos(x, t_cj - t)      picture and texts    (debian_mri.models.image_branch)
                     + sum_p D[c, p] u_p                            people's variables   (debian_mri.models.clinical_fusion)

Picture only, table only and both are settings of it. Where the variables join the picture's feature (FiLM, text), their
contribution is the logit with them minus the logit with all of them missing.

Shapes: B scans, S slices, D width, K signs, P variables, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from debian_mri.biomarkers.head import BiomarkerHead
from debian_mri.config import MriConfig
from debian_mri.models.clinical_fusion import LateTerms, Variables
from debian_mri.models.image_branch import Picture

Batch = Mapping[str, Tensor]
"""``slices (B, S, D)``, NaN for slices that a scan does not have; ``signs (B, K)`` and ``variables (B, P)``, NaN where
missing; ``label (B,)`` in training. What a configuration does not use may be absent."""

BIAS, SIGN, DESCRIPTION, VARIABLE, JOINED = (
    "bias",
    "sign",
    "description",
    "variable",
    "variables with the picture",
)


class Contribution(NamedTuple):
    """One term of the logits.

    Attributes:
        kind: `BIAS`, `SIGN`, `DESCRIPTION`, `VARIABLE` or `JOINED`.
        name: of the sign, the variable, the description's text.
        values: (B, C) added to each class's logit.
    """

    kind: str
    name: str
    values: Float[Tensor, "b c"]


class MriModel(nn.Module):
    """See the head of this file; `debian_mri.training.trainer` makes one for a fold, `debian_mri.models.checkpoint` reads one back.

    Args:
        config: all settings.
        labels: the classes as the data set spells them.
        signs: the sign layer, or None.
        picture: the picture's part, or None.
        variables: scaling of the people's variables, or None where none enter.
    """

    def __init__(
        self,
        config: MriConfig,
        labels: Sequence[str],
        *,
        signs: BiomarkerHead | None = None,
        picture: Picture | None = None,
        variables: Variables | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.labels = tuple(labels)
        self.bias = nn.Parameter(torch.zeros(len(labels)))
        self.signs = signs
        self.picture = picture
        self.variables = variables
        late = variables is not None and config.demographics.mode == "linear"
        self.late = LateTerms(len(variables.names), len(labels)) if late and variables is not None else None

    @property
    def device(self) -> torch.device:
        """Device of the learned parts, and of the frozen backbone where the picture enters."""
        return self.bias.device

    def numbers(self, batch: Batch) -> Float[Tensor, "b q"] | None:
        """The people's variables as scaled numbers with indicators."""
        return None if self.variables is None else self.variables(batch["variables"])

    def forward(self, batch: Batch) -> Float[Tensor, "b c"]:
        """Logits."""
        rows = len(next(iter(batch.values())))
        logits = self.bias.expand(rows, -1)
        numbers = self.numbers(batch)
        if self.signs is not None:
            logits = logits + self.signs(batch["signs"], self._adjusting(numbers)).sum(-1)
        if self.picture is not None:
            texts = self.picture.texts()
            feature = self._feature(batch, texts, numbers)
            logits = logits + self.picture.to_classes(self.picture.parts(feature, texts))
        if self.late is not None and numbers is not None:
            logits = logits + self.late(numbers).sum(-1)
        return logits

    @torch.no_grad()
    def contributions(self, batch: Batch) -> list[Contribution]:
        """All terms, which sum to the logits: the bias, each sign, each description, each variable."""
        rows = len(next(iter(batch.values())))
        found = [Contribution(BIAS, "bias", self.bias.expand(rows, -1).clone())]
        numbers = self.numbers(batch)
        if self.signs is not None:
            parts = self.signs(batch["signs"], self._adjusting(numbers))
            found += [Contribution(SIGN, name, parts[..., at]) for at, name in enumerate(self.signs.names)]
        if self.picture is not None:
            found += self._of_picture(batch, numbers)
        if self.late is not None and self.variables is not None and numbers is not None:
            parts = self.late(numbers)
            found += [Contribution(VARIABLE, name, parts[..., at]) for at, name in enumerate(self.variables.names)]
        return found

    def _of_picture(self, batch: Batch, numbers: Tensor | None) -> list[Contribution]:
        """Each description's share without the variables, then what these change where they join the feature."""
        assert self.picture is not None
        picture, texts = self.picture, self.picture.texts()
        plain, joined = batch, picture.film is not None or picture.branch is not None
        if joined:
            absent = torch.full_like(batch["variables"], torch.nan)
            plain = {**batch, "variables": absent}
        parts = picture.parts(self._feature(plain, texts, self.numbers(plain)), texts)
        found = []
        for at, (text, owner) in enumerate(zip(picture.prompts.texts, picture.prompts.owner.tolist(), strict=True)):
            values = parts.new_zeros(len(parts), len(self.labels))
            values[:, owner] = parts[:, at]
            found.append(Contribution(DESCRIPTION, text, values))
        if joined:
            whole = picture.parts(self._feature(batch, texts, numbers), texts)
            assert self.variables is not None
            name = ", ".join(self.variables.names)
            found.append(Contribution(JOINED, name, picture.to_classes(whole - parts)))
        return found

    def _feature(self, batch: Batch, texts: Tensor, numbers: Tensor | None) -> Float[Tensor, "b d"]:
        assert self.picture is not None
        variables = batch["variables"] if self.picture.branch is not None else None
        return self.picture.feature(
            batch["slices"], texts, numbers=numbers if self.picture.film is not None else None, variables=variables
        )

    def _adjusting(self, numbers: Tensor | None) -> Tensor | None:
        assert self.signs is not None
        return numbers if len(self.signs.slope) else None

    def penalty(self) -> Float[Tensor, ""]:
        """What holds weights to what is known, and to 0: added to the sum of the rows' losses."""
        config, total = self.config, self.bias.new_zeros(())
        if self.signs is not None:
            total = total + config.concepts.prior_strength * self.signs.penalty()
        if self.late is not None:
            total = total + config.demographics.shrinkage * self.late.penalty()
        if self.picture is not None and self.picture.film is not None:
            total = total + config.demographics.shrinkage * self.picture.film.penalty()
        return total / 2

    def learned(self) -> dict[str, Tensor]:
        """All tensors but the frozen backbone's and the prompts', which save themselves."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if not name.startswith("picture.owned.") and ".vlm." not in name
        }
