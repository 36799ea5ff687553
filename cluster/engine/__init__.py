"""The vLLM replica: its application, settings, lease and liveness."""
