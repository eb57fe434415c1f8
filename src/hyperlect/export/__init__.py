"""A cell of a trained model as files that other libraries load."""
