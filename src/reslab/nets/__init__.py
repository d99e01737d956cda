"""What a network is: a specification (plain data), the catalogue of the papers, and the module built from it.

Specifications import without torch; `reslab.nets.network` has the module.
"""

from reslab.nets.catalog import CATALOG, FAMILIES, resolve
from reslab.nets.cifar import cifar_plain, cifar_resnet
from reslab.nets.spec import NetSpec

__all__ = ["CATALOG", "FAMILIES", "NetSpec", "cifar_plain", "cifar_resnet", "resolve"]
