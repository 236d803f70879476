"""Serving: the engine in front of vLLM, hot swap of policies, routing, gRPC services and pages."""
