"""Clusterers: KMeans, for many states and clusters too, Gaussian mixtures, agglomerative clustering."""
