"""What does a bid cost? One workload for all figures of speed."""
