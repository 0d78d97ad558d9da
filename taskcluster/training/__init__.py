"""One run: build, train, measure, conclude."""
