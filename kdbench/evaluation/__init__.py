"""Features, neighbours, embeddings and scores of a trained network, as functions."""
