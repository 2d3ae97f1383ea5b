"""One small client program per peer."""
