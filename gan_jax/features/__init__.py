"""Networks that evaluation takes features from, by name: functions of a network's tensors and of images.

Their plans are in ``gan_shared/feature_plans.py``, their weights come through ``gan_shared/feature_weights.py``.
"""

from gan_jax.features.digits import digits
from gan_jax.features.efficientnet_lite0 import efficientnet_lite0
from gan_jax.features.inception_v3 import inception_v3
from gan_jax.features.vgg16 import vgg16

# (tensors by name, images (batch, height, width, channel)) -> features (batch, feature), logits (batch, class) or None.
FEATURE_NETWORKS = {
    "efficientnet-lite0": efficientnet_lite0,
    "inception": inception_v3,
    "digits": digits,
    "vgg16": vgg16,
}
