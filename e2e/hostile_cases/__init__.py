"""The parts of the scenario hostile: what is sent, and how it must be answered."""
