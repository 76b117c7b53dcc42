"""External validation: a bundle on labelled data that it was not trained on."""
