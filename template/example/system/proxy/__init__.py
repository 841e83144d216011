"""The APIs that its agents and its code may use."""
