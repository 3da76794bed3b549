"""What people would use instead, on the same creatives, engines, broker and machine."""
