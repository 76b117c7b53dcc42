"""The Kubernetes API: custom resources, CRDs, CEL rules, objects of a run, client."""
