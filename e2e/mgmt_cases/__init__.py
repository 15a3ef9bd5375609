"""What the management SDKs run: one file a language, each with the same calls; they print what was exchanged."""
