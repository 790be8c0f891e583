"""The running API against its own OpenAPI description, by schemathesis."""
