"""Translates REST to gRPC. Knows the contract alone."""
