"""The manifest: its model, its checks, its words for people, and the CRD made from it."""
