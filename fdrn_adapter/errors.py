"""What a caller may want to catch, one name each; every message says what to do."""


class UnsupportedHostError(ValueError):
    """The network given to `wrap` does not have the structure of a RITM or FocalClick network."""


class FeatureMismatchError(ValueError):
    """Image features do not belong to this model, this image or these rois."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or does not fit the model it is loaded into."""
