"""The model bundle, with everything needed to use and test the model."""
