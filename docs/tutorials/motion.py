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
# # From a folder of BVH files to new motions in Blender
#
# You have motion capture of some actions. You want more of it. This tutorial prepares the files, trains a small
# diffusion model, generates new motions, and writes them for Blender and the browser. It takes about a minute on one
# CPU core.
#
# The recordings are simulated here, and the training is short: the result shows the steps, not the quality. With your
# own files, begin at *Prepare*.

# %%
import tempfile
from pathlib import Path

from motiondiff import MotionDataset, MotionDenoiser, MotionDiffusionPipeline, TrainConfig, export, train

folder = Path(tempfile.mkdtemp(prefix="motion-tutorial-"))  # or a folder of your own

# %% [markdown]
# ## Simulated recordings
#
# Six people walk, wave and sit down, three times each. One folder for each action, as many archives have it.

# %%
from motiondiff.data.synthetic import simulate_motion

for action in ("walk", "wave", "sit down"):
    (folder / "bvh" / action).mkdir(parents=True)
    for person in range(6):
        for take in range(3):
            motion = simulate_motion(action, seed=take, subject=person, fps=30)
            export(motion, folder / "bvh" / action / f"person{person}_{take}.bvh")

print(len(list((folder / "bvh").rglob("*.bvh"))), "files")

# %% [markdown]
# ## Prepare
#
# A BVH file names neither its up axis nor its unit: both are found by the standing body. `action_from="folder"` takes
# the action from the folder. A table gives the person of each file, so that the people of the test are not those of
# the training.

# %%
lines = ["file,subject"]
for path in sorted((folder / "bvh").rglob("*.bvh")):
    lines.append(f"{path.relative_to(folder / 'bvh')},{path.name.split('_')[0]}")
(folder / "people.csv").write_text("\n".join(lines) + "\n")

data = MotionDataset.prepare(
    "bvh", folder / "bvh", folder / "store", action_from="folder", metadata=folder / "people.csv", fps=20
)
print(data.store.info()["actions"], data.store.info()["splits"])
print(data[0]["features"].shape)  # frames, features

# %% [markdown]
# Files that cannot be used are listed with the reason:

# %%
print((folder / "store" / "rejected.csv").read_text())

# %% [markdown]
# ## Train
#
# A small transformer for a few hundred steps. On real data take the defaults, or a file of `libs/motiondiff/configs`,
# and thousands of steps.

# %%
model = MotionDenoiser.for_dataset(data, num_layers=2, width=64, num_heads=4, feedforward=128, dropout=0.0)
config = TrainConfig(
    max_steps=150, batch_size=16, learning_rate=2e-3, warmup_steps=20, ema_decay=0.97, device="cpu", report_to="none"
)
run = train(model, data, config, out=folder / "run")
print("open", run.run.report)

# %% [markdown]
# ## Generate
#
# The pipeline is one of diffusers. The seed makes a motion reproducible; `guidance` above 1 keeps closer to the
# action.

# %%
import torch

pipeline = MotionDiffusionPipeline.from_pretrained(folder / "run")
generator = torch.Generator().manual_seed(0)
result = pipeline(actions=["walk", "wave", "sit down"], num_frames=60, num_inference_steps=10, generator=generator)
for motion in result.motions:
    print(motion.action, len(motion), "frames,", f"{motion.seconds:.1f} s")

# %% [markdown]
# ## Look
#
# A contact sheet for this page; an animated page for the browser.

# %%
from PIL import Image

from motiondiff.export.html.page import write_html
from motiondiff.export.images.render import write_contact_sheet

write_contact_sheet(result.motions, None, folder / "sheet.png", frames=8, cell=(110, 140))
write_html(result.motions, folder / "viewer.html", title="New motions")
Image.open(folder / "sheet.png")

# %% [markdown]
# ## Open them in Blender
#
# *File > Import > Motion Capture (.bvh)*, with *Scale* 1: the files are in metres. A glTF file carries a body as
# well: *File > Import > glTF 2.0*; Unity, Godot and three.js read it, too.

# %%
for motion in result.motions:
    name = motion.action.replace(" ", "-")
    export(motion, folder / f"{name}.bvh")
    export(motion, folder / f"{name}.glb")

print(*sorted(path.name for path in folder.glob("*.*")), sep="\n")

# %% [markdown]
# With Blender's Python module (`pip install 'bpy>=4.5,<5'`, Python 3.11), `export(motion, "walk.blend")` writes a
# scene.
#
# ## Next
#
# - [Data](../motiondiff/data.md): other formats, label maps, several sets on one skeleton.
# - [Training data for recognition](../motiondiff/recognition.md): does generated motion help a classifier?
# - [Evaluation](../motiondiff/evaluation.md): generated motions beside held-out real ones.
