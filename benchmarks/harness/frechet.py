"""The Fréchet distance between two sets of pictures, by the features of any network."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Gaussian = tuple[NDArray[np.float64], NDArray[np.float64]]
"""(mean [n], covariance [n, n])"""


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), which is FID where the features are Inception's (Heusel et al. 2017,
    arXiv:1706.08500, equation 6)."""
    (mean, covariance), (other_mean, other_covariance) = one, other
    values, vectors = np.linalg.eigh(covariance)
    # C1 C2 has the eigenvalues of this symmetric matrix, so no root of a matrix that is not symmetric is needed.
    root: Any = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    of_product = np.linalg.eigvalsh(root @ other_covariance @ root).clip(min=0)
    difference = mean - other_mean
    traces = np.trace(covariance) + np.trace(other_covariance)
    return float(difference @ difference + traces - 2 * np.sqrt(of_product).sum())
