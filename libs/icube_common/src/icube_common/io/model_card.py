"""Model cards: ``README.md`` of a trained model.

Sections of Mitchell et al. ("Model Cards for Model Reporting", FAT* 2019), and the metadata that the Hugging Face hub
reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from icube_common.config import Config, config_to_yaml

UNMEASURED = (
    "A training measures nothing on other people. Run `{command}` on people who were not trained on, and put its table "
    "here before you share this model."
)
LICENCE = (
    "Not stated yet. The licences of the training data, and of the frozen models that this one was built on, decide "
    "what may be done with these weights: name them here, and change `license` in the head of this file."
)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Content of a model card; every text is Markdown.

    Attributes:
        title: heading.
        library: Python library that loads the model.
        pipeline_tag: task of the Hugging Face hub, empty for a task that it has no name for.
        tags: further words for the hub.
        notice: one paragraph below the heading, such as the notice of simulated data; empty for none.
        details: what the model computes, and from which inputs.
        intended: what it is for.
        excluded: what it is not for.
        data: what it was trained on, with counts.
        limits: warnings of the training, a sentence each.
        command: command that measures figures on other people.
        citation: method that it implements; empty for none.
        config: all settings.
    """

    title: str
    library: str
    pipeline_tag: str = ""
    tags: Sequence[str] = ()
    notice: str = ""
    details: str
    intended: str
    excluded: str
    data: str
    limits: Sequence[str] = ()
    command: str
    citation: str = ""
    config: Config

    def to_markdown(self) -> str:
        """The text of ``README.md``."""
        head = [f"library_name: {self.library}", "license: other", "license_name: see-licence-below"]
        if self.pipeline_tag:
            head.append(f"pipeline_tag: {self.pipeline_tag}")
        head += ["tags:", *(f"- {tag}" for tag in (self.library, *self.tags))]
        limits = "\n".join(f"- {text}" for text in self.limits) or "- No warning was given in the training."
        sections = {
            "Model details": self.details,
            "Intended use": f"{self.intended}\n\nNot for: {self.excluded}",
            "Training data": self.data,
            "Evaluation": UNMEASURED.format(command=self.command),
            "Limits": limits,
            "Licence": LICENCE,
            **({"Citation": self.citation} if self.citation else {}),
            "Settings": f"```yaml\n{config_to_yaml(self.config)}```",
        }
        body = "\n\n".join(f"## {name}\n\n{text}" for name, text in sections.items())
        notice = f"{self.notice}\n\n" if self.notice else ""
        return "---\n" + "\n".join(head) + f"\n---\n\n# {self.title}\n\n{notice}{body}\n"
