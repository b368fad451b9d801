"""From a checkpoint and an image to a result; the app, the annotation service, the evaluation and the tests call these
functions.

A "unit image" is a float32 (H, W) in [0, 1] of any size; a "grid image" is the same at the network's size, (1, 1, S,
S).
"""

from mpsams.inference.network import Network as Network
from mpsams.inference.network import NotFinite as NotFinite
from mpsams.inference.network import agreement_in_bfloat16 as agreement_in_bfloat16
from mpsams.inference.network import build_network as build_network
from mpsams.inference.network import list_checkpoints as list_checkpoints
from mpsams.inference.network import open_network as open_network
from mpsams.inference.network import to_grid as to_grid
from mpsams.inference.patch_study import Agreement as Agreement
from mpsams.inference.patch_study import MaskedPatches as MaskedPatches
from mpsams.inference.patch_study import Study as Study
from mpsams.inference.patch_study import agreement as agreement
from mpsams.inference.patch_study import coverage as coverage
from mpsams.inference.patch_study import mask_at as mask_at
from mpsams.inference.patch_study import study as study
from mpsams.inference.reconstruction import Reconstruction as Reconstruction
from mpsams.inference.reconstruction import fill as fill
from mpsams.inference.reconstruction import hide as hide
from mpsams.inference.reconstruction import reconstruct as reconstruct
from mpsams.inference.segmentation import features as features
from mpsams.inference.segmentation import grid as grid
from mpsams.inference.segmentation import grid_probability as grid_probability
from mpsams.inference.segmentation import lesion_mask as lesion_mask
from mpsams.inference.segmentation import logits as logits
from mpsams.inference.segmentation import probabilities as probabilities
from mpsams.inference.segmentation import probability as probability
from mpsams.inference.segmentation import to_image as to_image
