"""What is computed of a trained network: features, neighbours, embeddings and scores."""
