"""Models of the authors' released code (ahmetustun/hyperx) as hyperlect models.

The released code names its parameters after its own modules; here they are renamed one by one,
and nothing may be missing or left over. Its checkpoints become runs.
"""

from .convert import Conversion, convert_checkpoint, from_released
