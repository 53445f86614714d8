"""The models of this package. A config's ``model:`` key names one of these classes; the list is the registry."""

from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.models.dcnv2 import DCNv2_ME
from fuxictr_me.models.dnn import DNN_ME
from fuxictr_me.models.finalmlp import FinalMLP_ME
from fuxictr_me.models.mixed import Mixed_ME
from fuxictr_me.models.nfwfm import NFwFM_ME
from fuxictr_me.models.pnn import PNN_ME
from fuxictr_me.models.xdeepfm import xDeepFM_ME

__all__ = ["DNN_ME", "PNN_ME", "DCNv2_ME", "FinalMLP_ME", "Mixed_ME", "MultiEmbeddingModel", "NFwFM_ME", "xDeepFM_ME"]
