"""Full fine-tuning or an adapter: what the measured curves allow to be said, and what a wrong choice costs."""
