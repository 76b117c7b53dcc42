"""The consensus model: unpenalised logistic regression with odds ratios and intervals."""
