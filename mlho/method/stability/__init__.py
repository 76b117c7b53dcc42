"""How much iterations agree: confidence scores, stability of selected sets, spread of a figure."""
