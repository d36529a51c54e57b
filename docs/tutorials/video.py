# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From a folder of videos to a classifier with reasons
#
# You have short videos of some actions, by some people. You want a classifier that works on other people, and that
# gives reasons. This tutorial prepares the videos, evaluates on people who are left out, trains the final model, and
# explains a prediction. It takes about a minute on one CPU core.
#
# The videos are simulated stick figures. With your own files, begin at *Prepare*.

# %%
import csv
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from actprompt import ActConfig, ActionModel, ActionPipeline, VideoDataset, evaluate, train
from icube_common.config import load_config

folder = Path(tempfile.mkdtemp(prefix="video-tutorial-"))  # or a folder of your own

# %% [markdown]
# ## Simulated videos
#
# Four figures do five actions, twice each. This model sees the frames alone. For people, add poses: `actprompt pose`
# estimates them from the frames, and `skeleton.enabled=true` uses them.

# %%
from actprompt.data.synthetic import write_simulated

simulated = write_simulated(folder / "simulated", takes=2)
videos = [(str(simulated.video(clip)), clip.label, clip.subject) for clip in simulated.clips]
print(len(videos), "videos of", sorted({label for _, label, _ in videos}))

# %% [markdown]
# ## Prepare
#
# A list with a row for each clip. The column `subject` keeps people apart. Each video is decoded once: damaged ones
# end in `rejected.csv` with the reason.

# %%
with open(folder / "clips.csv", "w", newline="") as file:
    csv.writer(file).writerows([("path", "label", "subject"), *videos])

data = VideoDataset.from_csv(folder / "clips.csv", folder / "data")
print(data.class_names, len(data), "clips;", data[0]["frames"].shape)

# %% [markdown]
# ## Sentences about the actions
#
# Each class gets sentences. They initialise the prompts, and a prediction names the ones that are closest. Sources
# are part of the file; every report states that no specialist has checked them.

# %%
from icube_common.knowledge import ClassKnowledge, Sentence, Source

sentences = {
    "wave": ["One arm is lifted high and swings from side to side.", "The other arm hangs down."],
    "bow": ["The upper body bends forward and straightens up again.", "The knees stay straight."],
    "sit down": ["The body is lowered onto a seat.", "Hips and knees are strongly bent at the end."],
    "clap": ["Both palms meet several times in front of the chest.", "Both elbows are bent."],
    "raise both arms": ["Both arms are lifted until they point up.", "The hands are far apart above the head."],
}
author = Source(kind="person", person="the author of this tutorial", date="2026-11-30")
knowledge = ClassKnowledge(
    title="Five actions",
    classes={name: [Sentence(text, author, "accepted") for text in texts] for name, texts in sentences.items()},
)
saved = knowledge.save(folder / "knowledge.yaml")

# %% [markdown]
# ## Settings
#
# `icube-lite` is a frozen image tower trained on ImageNet, beside a sentence encoder; no model hub is needed.
# `mean_std` pools the frames of a clip. `ridge_init` initialises the projection by ridge regression, so a few steps
# are enough.

# %%
config = load_config(
    ActConfig,
    overrides=[
        "vlm.name=icube-lite",
        f"knowledge={folder / 'knowledge.yaml'}",
        "visual.head=mean_std",
        "train.max_steps=10",
        "train.device=cpu",
        "train.report_to=none",
    ],
)

# %% [markdown]
# ## Accuracy on other people
#
# Each figure is left out in turn. The interval is over people, not over clips: with four of them it is wide.

# %%
result = evaluate(data, config, protocol="leave-one-subject-out", out=folder / "evaluation")
top1 = result.metrics["top1"]
print(f"top-1 {100 * top1.mean:.0f} % [{100 * top1.low:.0f}, {100 * top1.high:.0f}], {top1.groups} people")
print("open", folder / "evaluation" / "report.html")

# %% [markdown]
# ## The final model, and a prediction with reasons
#
# The last figure is excluded, so that the prediction is for an unknown person. `calibrate` also fits a temperature and
# a threshold, on predictions by models without each of the training people.

# %%
person = sorted({subject for _, _, subject in videos})[-1]
final = replace(config, calibrate=True)
train(ActionModel.for_dataset(data, final), data, out=folder / "run", exclude_subjects=[person])
video, label, _ = next(row for row in videos if row[2] == person)
prediction = ActionPipeline.from_pretrained(folder / "run")(video)
for row in prediction.top(3):
    print(f"{row['words']:16} {100 * row['probability']:5.1f} %")

# %%
for row in prediction.reasons["sentences"]:
    print(f"{row['direction']:8} {row['action']:16} {row['cosine']:+.2f}  {row['text']}")

# %% [markdown]
# Frames by their importance: how much less certain the decision is without each of them.

# %%
from PIL import Image

order = np.argsort([-row["importance"] for row in prediction.reasons["frames"]])[:4]
Image.fromarray(np.concatenate([prediction.frames.frames[0, index] for index in sorted(order)], axis=1)).resize(
    (896, 224)
)

# %% [markdown]
# The same as a page that can be sent to others:

# %%
print("open", prediction.save_html(folder / "page.html"))

# %% [markdown]
# Below the threshold the answer is *none of these*: it is set on people left out of the training.

# %%
print(prediction.threshold, prediction.threshold_rule, "| rejected:", prediction.rejected)

# %% [markdown]
# ## Next
#
# - [Data](../actprompt/data.md): published sets, skeleton files, poses from video.
# - [Model](../actprompt/model.md): CLIP and other towers, temporal heads, your own encoder.
# - [Evaluation](../actprompt/evaluation.md): few clips, new classes, published methods on the same folds.
