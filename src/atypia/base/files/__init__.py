"""Files that others wrote or others will read: opened, parsed, written and hashed under stated rules."""
