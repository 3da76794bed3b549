"""What each part costs, the gate that keeps it so, and the peers."""
