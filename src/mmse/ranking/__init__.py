"""What happens between finding and showing: channels fused, the business's rules applied, hits in their final order."""
