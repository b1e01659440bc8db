"""From annotation tools to sessions: bridge, outputs, server, and an adapter for each tool."""
