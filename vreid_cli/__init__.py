"""Vehicle re-identification: rank the tracks of other cameras in the latent space of a CNN."""

__version__ = "0.1.0"
