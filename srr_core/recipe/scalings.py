"""Which activation-aware matrix S weighs the error of a layer."""

from typing import Annotated, Literal

from pydantic import Field

from srr_core.recipe.base import Spec


class IdentitySpec(Spec):
    """S = I: every input counts the same. Source: ZeroQuant-V2, arXiv:2303.08302."""

    kind: Literal["identity"] = "identity"


class LQERSpec(Spec):
    """S diagonal: the largest, over calibration sequences, of the mean magnitude of each input.

    Calibration runs the sequences one at a time, whatever its batch size. Source: LQER, arXiv:2402.02446.
    """

    kind: Literal["lqer"] = "lqer"


class DiagonalSpec(Spec):
    """S diagonal: the root mean square of each input. Source: QERA-approx, arXiv:2410.06040."""

    kind: Literal["diagonal"] = "diagonal"


class AutocorrelationSpec(Spec):
    """S full: any factor of the autocorrelation of the inputs. Source: QERA-exact, arXiv:2410.06040."""

    kind: Literal["autocorrelation"] = "autocorrelation"


ScalingSpec = Annotated[IdentitySpec | LQERSpec | DiagonalSpec | AutocorrelationSpec, Field(discriminator="kind")]
