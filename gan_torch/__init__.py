"""The PyTorch backend, the reference: torch's semantics are the specification of both."""
