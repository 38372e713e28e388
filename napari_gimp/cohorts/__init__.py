"""Many slides at once: manifests, checks, and features on one machine or a cluster."""
