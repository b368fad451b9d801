"""A plan of train.reproduce that takes seconds."""

from __future__ import annotations

PLAN = """
seeds = [0]
draws = [0, 1]
[data]
name = "phantom"
size = 32
cases = 14
[model]
width = 2
[run]
threads = 1
picture_every = 0
[pretrain.optim]
epochs = 2
batch = 6
[methods]
mae.method = {name = "mae", patch = 4}
mps_ams.method = {name = "mps_ams", patch = 4}
[finetune]
validate_every = 1000
[recipes.strong]
recipe.epochs = 3
at."0.5".recipe.epochs = 1
[recipes.paper]
recipe.epochs = 2
[table1]
methods = ["mae", "mps_ams"]
labels = [0.1]
scratch = true
reference = [0.5]
recipes = ["strong"]
[fig2]
methods = ["mps_ams"]
labels = [0.1]
scratch = true
recipes = ["strong"]
"""
