"""A user's project: its workspace, template files, unreadable episodes and dataset approvals."""
