"""Commands of the registry: models, promote, rollback, audit."""
