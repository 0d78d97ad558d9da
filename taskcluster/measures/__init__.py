"""What is measured of a model: an observation in, named numbers out."""
