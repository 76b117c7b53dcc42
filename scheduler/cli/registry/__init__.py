"""Commands on models: models, promote, rollback, audit, test."""
