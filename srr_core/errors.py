"""Everything the core refuses or fails at, as one tree with a stable code per leaf.

SrrError
├── RecipeError                 invalid_recipe
├── UnsupportedModelError       unsupported_model
├── CheckpointError             invalid_checkpoint
│   ├── DamagedHeaderError      invalid_checkpoint
│   └── NonFiniteWeightError    non_finite_weight
├── CalibrationError            invalid_calibration_text
├── EvaluationError             invalid_evaluation_text
├── TrainingDataError           invalid_training_data
├── DestinationError            destination_exists
├── ResumeMismatchError         resume_mismatch
├── NumericalError              numerical_failure
├── VerificationError           verification_failed
├── ExportError                 export_refused
├── StorageError                storage_exhausted
└── StopRequested               stopped
"""

from typing import ClassVar


class SrrError(Exception):
    """A failure with a sentence for the user: what, the value, what to do instead."""

    code: ClassVar[str] = "srr_error"


class RecipeError(SrrError):
    """A recipe that cannot be run: an unknown name or field, or options that exclude each other."""

    code = "invalid_recipe"


class UnsupportedModelError(SrrError):
    """A model we cannot compress, found from its configuration before any weight is read."""

    code = "unsupported_model"


class CheckpointError(SrrError):
    """A checkpoint on disk that is damaged, incomplete or unsafe to read."""

    code = "invalid_checkpoint"


class DamagedHeaderError(CheckpointError):
    """A file of weights whose header does not say what the format wants it to, or does not fit the file."""


class NonFiniteWeightError(CheckpointError):
    """A weight that holds NaN or infinity; every quantizer would turn it into noise."""

    code = "non_finite_weight"


class CalibrationError(SrrError):
    """A calibration text that is empty, too short or not UTF-8."""

    code = "invalid_calibration_text"


class EvaluationError(SrrError):
    """An evaluation text that is empty, too short or not UTF-8."""

    code = "invalid_evaluation_text"


class TrainingDataError(SrrError):
    """Rows that cannot be learned from; the message names the file and the row."""

    code = "invalid_training_data"


class DestinationError(SrrError):
    """A destination that exists already or cannot be written."""

    code = "destination_exists"


class ResumeMismatchError(SrrError):
    """Unfinished work beside the destination that belongs to another source, recipe, text or version."""

    code = "resume_mismatch"


class NumericalError(SrrError):
    """A decomposition that broke an invariant; the message names the layer and the numbers."""

    code = "numerical_failure"


class VerificationError(SrrError):
    """An artifact that, read back from disk, is not what was computed."""

    code = "verification_failed"


class ExportError(SrrError):
    """A conversion that would not be exact, or that a format cannot hold."""

    code = "export_refused"


class StorageError(SrrError):
    """The disk is full or a file could not be written; finished layers are kept for a resume."""

    code = "storage_exhausted"


class StopRequested(SrrError):
    """The caller asked to stop; finished layers are kept for a resume."""

    code = "stopped"
